"""Reading a results file: one whole run, every line as the schema says, or an error that names file and line."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

SCHEMA = Path(__file__).parent / "schema" / "rows.schema.json"

Record = Mapping[str, Any]

_AGAIN = "run it again"


class StreamError(ValueError):
    """A results file is cut off, mixed of several or invalid; the message has file, line, expected, found."""


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
    records = list(_records(file))
    (_, header), rows, (last, footer) = records[0], records[1:-1], records[-1]
    _check_rows(file, header, rows)
    found = dict(Counter(row["outcome"] for _, row in rows))
    if footer["rows"] != len(rows) or footer["outcomes"] != found:
        counted = f"{footer['rows']} rows, {_counts(footer['outcomes'])}"
        raise _error(file, last, f"{counted}, as the footer says", f"{len(rows)} rows, {_counts(found)}", _AGAIN)
    return Run(file, header, tuple(row for _, row in rows))


def _records(file: Path) -> Iterator[tuple[int, Record]]:
    """Each line's number and record; the first is a header, the last a footer, the others are rows."""
    lines = file.read_text(encoding="utf-8").split("\n")
    ended = False
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
        record = _record(file, number, line)
        kind, allowed = record.get("kind"), ("header",) if number == 1 else () if ended else ("row", "footer")
        if kind not in allowed:
            expected = " or ".join(f"a {name}" for name in allowed) or "the end of the file"
            raise _error(file, number, expected, f"kind {kind}", "a file holds one run; keep the runs apart")
        if error := best_match(_validator(str(kind)).iter_errors(record)):
            raise StreamError(f"{file}:{number}: {kind}{error.json_path.removeprefix('$')}: {error.message}; {_AGAIN}")
        ended = kind == "footer"
        yield number, record
    if not ended:
        raise _error(file, len(lines), "a footer", "the end of the file", f"the run was stopped; {_AGAIN}")


def _record(file: Path, number: int, line: str) -> Record:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise _error(file, number, "JSON", f"{line[:60]!r} ({error})", _AGAIN) from error
    if not isinstance(record, dict):
        raise _error(file, number, "an object", repr(line[:60]), _AGAIN)
    return record


def _check_rows(file: Path, header: Record, rows: list[tuple[int, Record]]) -> None:
    """Every row is of a subject of the header, comes once, and says why its failure is expected, if it is."""
    names = [subject["name"] for subject in header["subjects"]]
    if len(set(names)) < len(names):
        raise _error(file, 1, "subjects with names of their own", ", ".join(names), "keep the runs apart")
    seen: dict[tuple[str, str, str], int] = {}
    for number, row in rows:
        case = (row["subject"], row["contract"], row["case"])
        if row["subject"] not in names:
            raise _error(file, number, f"a row of {' or '.join(names)}", row["subject"], "keep the runs apart")
        if case in seen:
            text = f"{' '.join(case).strip()}, which line {seen[case]} has already"
            raise _error(file, number, "every case once", text, "keep the runs apart")
        if row["outcome"] in ("known", "fixed") and "expectation" not in row:
            raise _error(file, number, f"an expectation, as the outcome is {row['outcome']}", "none", _AGAIN)
        seen[case] = number


def _counts(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "no outcomes"


def _error(file: Path, line: int, expected: str, found: str, way_out: str) -> StreamError:
    return StreamError(f"{file}:{line}: expected {expected}, found {found}; {way_out}")


@cache
def _validator(kind: str) -> Draft202012Validator:
    """What checks records of a kind; the schema of a whole line could only say that it is none of all kinds."""
    definitions = json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]
    return Draft202012Validator({"$defs": definitions, "$ref": f"#/$defs/{kind}"})
