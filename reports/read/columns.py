"""The columns of the tables: of each subject and version, what the newest run says."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reports.read.records import Record
from reports.read.stream import Run


@dataclass(frozen=True)
class Column:
    """A subject in one version, as one run found it.

    Attributes:
      run: the run.
      subject: what the subject told of itself in it.
    """

    run: Run
    subject: Record

    @property
    def name(self) -> str:
        return str(self.subject["name"])

    @property
    def version(self) -> str:
        """Empty if the subject tells none, or could not be had."""
        return str(self.subject.get("version", ""))

    @property
    def title(self) -> str:
        """Name and version; with a space, at which a narrow page can break it."""
        return f"{self.name} {self.version}".strip()

    @property
    def unavailable(self) -> str:
        """Why the subject could not be had; empty if it could."""
        return str(self.subject.get("unavailable", ""))

    @property
    def rows(self) -> tuple[Record, ...]:
        return self.run.rows_of(self.name)

    @property
    def age(self) -> tuple[str, str]:
        """The larger the newer. ``started`` is in UTC and as text in the order of time."""
        return self.run.header["started"], self.run.file.name


def columns(runs: Iterable[Run]) -> list[Column]:
    """One column a subject and version, the reference first; a subject that some run had is nowhere unavailable."""
    found = [Column(run, subject) for run in runs for subject in run.subjects]
    newest: dict[tuple[str, str], Column] = {}
    for column in sorted(found, key=lambda column: column.age):
        newest[column.name, column.version] = column
    had = {column.name for column in newest.values() if not column.unavailable}
    kept = [column for column in newest.values() if not (column.unavailable and column.name in had)]
    return sorted(kept, key=lambda column: (column.name.partition(":")[0] != "reference", column.name, _order(column)))


def by_contract(columns: Iterable[Column]) -> Mapping[str, Record]:
    """A row of each contract, of the newest run that has it, in the order of ids."""
    found = {row["contract"]: row for column in sorted(columns, key=lambda column: column.age) for row in column.rows}
    return dict(sorted(found.items()))


def _order(column: Column) -> list[tuple[int, str]]:
    """Versions in the order of their numbers: 5.9 before 5.14."""
    parts = re.findall(r"\d+|\D+", column.version)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]
