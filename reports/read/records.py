"""Read JSON lines that hold one run (header, rows, footer), validated by a schema; errors name file and line."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

Record = Mapping[str, Any]

AGAIN = "run it again"
# Of a failure in a file of version 1.
UNRATED = "not rated"
# The worst first.
SEVERITIES = ("silent", "crash", "unclear", UNRATED)


class StreamError(ValueError):
    """A file is truncated, mixes several runs or is invalid; the message has file, line, expected, found."""


def read_records(file: Path, schema: Path) -> list[tuple[int, Record]]:
    """Return each line's number and record: a header, then rows, then a footer.

    Args:
      file: a file of JSON lines.
      schema: a JSON schema with ``$defs`` for ``header``, ``row`` and ``footer``.

    Raises:
      StreamError: the file is not one complete run, or a line does not match the schema.
      OSError: the file cannot be read.
    """
    return list(_records(file, schema))


def wrong(file: Path, line: int, expected: str, found: str, suggestion: str) -> StreamError:
    """Return the error of a line."""
    return StreamError(f"{file}:{line}: expected {expected}, found {found}; {suggestion}")


def _records(file: Path, schema: Path) -> Iterator[tuple[int, Record]]:
    lines = file.read_text(encoding="utf-8").split("\n")
    ended = False
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
        record = _record(file, number, line)
        kind, allowed = record.get("kind"), ("header",) if number == 1 else () if ended else ("row", "footer")
        if kind not in allowed:
            expected = " or ".join(f"a {name}" for name in allowed) or "the end of the file"
            raise wrong(file, number, expected, f"kind {kind}", "a file holds one run; keep the runs apart")
        if error := best_match(_validator(schema, str(kind)).iter_errors(record)):
            raise StreamError(f"{file}:{number}: {kind}{error.json_path.removeprefix('$')}: {error.message}; {AGAIN}")
        ended = kind == "footer"
        yield number, record
    if not ended:
        raise wrong(file, len(lines), "a footer", "the end of the file", f"the run was stopped; {AGAIN}")


def _record(file: Path, number: int, line: str) -> Record:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise wrong(file, number, "JSON", f"{line[:60]!r} ({error})", AGAIN) from error
    if not isinstance(record, dict):
        raise wrong(file, number, "an object", repr(line[:60]), AGAIN)
    return record


@cache
def _validator(schema: Path, kind: str) -> Draft202012Validator:
    """Return the validator of one kind of record; validating against all kinds at once gives useless messages."""
    definitions = json.loads(schema.read_text(encoding="utf-8"))["$defs"]
    return Draft202012Validator({"$defs": definitions, "$ref": f"#/$defs/{kind}"})


def severity_of(row: Record) -> str:
    """Return how bad a row's failure is: ``UNRATED`` if it was written before failures had a severity, empty if it is
    none."""
    return str(row.get("severity", UNRATED)) if row["outcome"] in ("fail", "known") else ""


def failures(rows: Iterable[Record]) -> str:
    """Return the number of failures by severity, the worst first: ``3 silent, 2 crash``; empty without a failure."""
    counts = Counter(map(severity_of, rows))
    return ", ".join(f"{counts[name]} {name}" for name in SEVERITIES if counts[name])


def area_of(row: Record) -> str:
    """Return the area of a row's contract: the first half of its id."""
    return str(row["contract"].partition(".")[0])
