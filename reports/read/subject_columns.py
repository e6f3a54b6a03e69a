"""The columns of the matrix: each subject in each version, as its newest run found it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reports.read.contract_runs import ContractRun
from reports.read.records import Record


@dataclass(frozen=True)
class Column:
    """A subject in one version, in one run.

    Attributes:
      run: the run.
      subject: the subject's description of itself in the run.
    """

    run: ContractRun
    subject: Record

    @property
    def name(self) -> str:
        return str(self.subject["name"])

    @property
    def version(self) -> str:
        """The version; empty if the subject reports none or was unavailable."""
        return str(self.subject.get("version", ""))

    @property
    def title(self) -> str:
        """Name and version, separated by a space so that a narrow page can wrap."""
        return f"{self.name} {self.version}".strip()

    @property
    def unavailable(self) -> str:
        """Why the subject was unavailable; empty if it was available."""
        return str(self.subject.get("unavailable", ""))

    @property
    def rows(self) -> tuple[Record, ...]:
        return self.run.rows_of(self.name)

    @property
    def age(self) -> tuple[str, str]:
        """A sort key, larger for newer runs. ``started`` is in UTC, so its text sorts by time."""
        return self.run.header["started"], self.run.file.name


def columns(runs: Iterable[ContractRun]) -> list[Column]:
    """Return one column per subject and version, the reference first.

    A subject that was available in any run has no column for the runs in which it was unavailable.
    """
    every = [Column(run, subject) for run in runs for subject in run.subjects]
    newest: dict[tuple[str, str], Column] = {}
    for column in sorted(every, key=lambda column: column.age):
        newest[column.name, column.version] = column
    available = {column.name for column in newest.values() if not column.unavailable}
    kept = [column for column in newest.values() if not (column.unavailable and column.name in available)]
    return sorted(kept, key=lambda column: (column.name.partition(":")[0] != "reference", column.name, _order(column)))


def by_contract(columns: Iterable[Column]) -> Mapping[str, Record]:
    """Return one row per contract, from the newest run that has it, sorted by id."""
    rows = {row["contract"]: row for column in sorted(columns, key=lambda column: column.age) for row in column.rows}
    return dict(sorted(rows.items()))


def _order(column: Column) -> list[tuple[int, str]]:
    """Return a sort key that orders versions by number: 5.9 before 5.14."""
    parts = re.findall(r"\d+|\D+", column.version)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]
