"""Read a results file of the contracts: one complete run that matches the schema, or an error with file and line."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reports.read.records import AGAIN, Record, read_records, wrong

SCHEMA = Path(__file__).parents[1] / "schema" / "rows.schema.json"


@dataclass(frozen=True)
class ContractRun:
    """The content of a results file.

    Attributes:
      file: the file it was read from.
      header: the run's environment.
      rows: the outcome of each contract, case and subject, in the file's order.
    """

    file: Path
    header: Record
    rows: tuple[Record, ...]

    @property
    def subjects(self) -> tuple[Record, ...]:
        """Each subject's description of itself."""
        return tuple(self.header["subjects"])

    def rows_of(self, subject: str) -> tuple[Record, ...]:
        """Return the rows of a subject, given its name."""
        return tuple(row for row in self.rows if row["subject"] == subject)


def read_run(file: Path) -> ContractRun:
    """Read the run in a results file.

    Raises:
      StreamError: it is not the header, rows and footer of one run, or violates ``schema/rows.schema.json``.
      OSError: the file cannot be read.
    """
    records = read_records(file, SCHEMA)
    (_, header), rows, (last, footer) = records[0], records[1:-1], records[-1]
    _check_rows(file, header, rows)
    outcomes = dict(Counter(row["outcome"] for _, row in rows))
    if footer["rows"] != len(rows) or footer["outcomes"] != outcomes:
        counted = f"{footer['rows']} rows, {_counts(footer['outcomes'])}"
        raise wrong(file, last, f"{counted}, as the footer says", f"{len(rows)} rows, {_counts(outcomes)}", AGAIN)
    return ContractRun(file, header, tuple(row for _, row in rows))


def _check_rows(file: Path, header: Record, rows: list[tuple[int, Record]]) -> None:
    """Check that every row belongs to a listed subject and is unique, and that each failure has a severity, and a
    reason if it is expected."""
    names = [subject["name"] for subject in header["subjects"]]
    if len(set(names)) < len(names):
        raise wrong(file, 1, "subjects with distinct names", ", ".join(names), "keep the runs apart")
    seen: dict[tuple[str, str, str], int] = {}
    for number, row in rows:
        case = (row["subject"], row["contract"], row["case"])
        if row["subject"] not in names:
            raise wrong(file, number, f"a row of {' or '.join(names)}", row["subject"], "keep the runs apart")
        if case in seen:
            text = f"{' '.join(case).strip()}, which line {seen[case]} has already"
            raise wrong(file, number, "every case once", text, "keep the runs apart")
        if row["outcome"] in ("known", "fixed") and "expectation" not in row:
            raise wrong(file, number, f"an expectation, as the outcome is {row['outcome']}", "none", AGAIN)
        if row["outcome"] in ("fail", "known") and "severity" not in row and header["schema_version"] > 1:
            raise wrong(file, number, f"a severity, as the outcome is {row['outcome']}", "none", AGAIN)
        seen[case] = number


def _counts(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "no outcomes"
