"""Reading JSON lines that hold one run, a header, rows, a footer, each as the schema says; an error says where."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

Record = Mapping[str, Any]

AGAIN = "run it again"


class StreamError(ValueError):
    """A file is cut off, mixed of several or invalid; the message has file, line, expected, found."""


def read_records(file: Path, schema: Path) -> list[tuple[int, Record]]:
    """Each line's number and record; the first is a header, the last a footer, the others are rows.

    Args:
      file: JSON lines.
      schema: has ``$defs`` for ``header``, ``row`` and ``footer``.

    Raises:
      StreamError: it is not the lines of one whole run, or a line is not as the schema says.
      OSError: it cannot be read.
    """
    return list(_records(file, schema))


def wrong(file: Path, line: int, expected: str, found: str, way_out: str) -> StreamError:
    """The error of a line."""
    return StreamError(f"{file}:{line}: expected {expected}, found {found}; {way_out}")


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
    """What checks records of a kind; the schema of a whole line could only say that it is none of all kinds."""
    definitions = json.loads(schema.read_text(encoding="utf-8"))["$defs"]
    return Draft202012Validator({"$defs": definitions, "$ref": f"#/$defs/{kind}"})


def area_of(row: Record) -> str:
    """The first half of a contract's id."""
    return str(row["contract"].partition(".")[0])
