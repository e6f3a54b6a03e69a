"""Reading a results file: one whole run, every line as the schema says, or an error that names file and line."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reports.read.records import AGAIN, Record, read_records, wrong

SCHEMA = Path(__file__).parents[1] / "schema" / "rows.schema.json"


@dataclass(frozen=True)
class Run:
    """What one results file tells.

    Attributes:
      file: where it was read from.
      header: what ran where.
      rows: what came of each contract, case and subject, in the file's order.
    """

    file: Path
    header: Record
    rows: tuple[Record, ...]

    @property
    def subjects(self) -> tuple[Record, ...]:
        """What each subject told of itself."""
        return tuple(self.header["subjects"])

    def rows_of(self, subject: str) -> tuple[Record, ...]:
        """The rows of a subject, by its name."""
        return tuple(row for row in self.rows if row["subject"] == subject)


def read_run(file: Path) -> Run:
    """The run that a results file holds.

    Raises:
      StreamError: it is not header, rows, footer of one run, or a line is not as ``schema/rows.schema.json`` says.
      OSError: it cannot be read.
    """
    records = read_records(file, SCHEMA)
    (_, header), rows, (last, footer) = records[0], records[1:-1], records[-1]
    _check_rows(file, header, rows)
    found = dict(Counter(row["outcome"] for _, row in rows))
    if footer["rows"] != len(rows) or footer["outcomes"] != found:
        counted = f"{footer['rows']} rows, {_counts(footer['outcomes'])}"
        raise wrong(file, last, f"{counted}, as the footer says", f"{len(rows)} rows, {_counts(found)}", AGAIN)
    return Run(file, header, tuple(row for _, row in rows))


def _check_rows(file: Path, header: Record, rows: list[tuple[int, Record]]) -> None:
    """Every row is of a subject of the header, comes once, and says why its failure is expected, if it is."""
    names = [subject["name"] for subject in header["subjects"]]
    if len(set(names)) < len(names):
        raise wrong(file, 1, "subjects with names of their own", ", ".join(names), "keep the runs apart")
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
        seen[case] = number


def _counts(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "no outcomes"
