"""Reading results files: a whole one is read; any other is rejected with file, line, expected and found."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from reports.read.contract_runs import SCHEMA, read_run
from reports.read.records import StreamError
from suite.session.results import ResultStream
from tests.reports.toy_runs import Json, footer, header, row, subject, write, write_run

VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
HEAD, ROWS_OF_TOY = header(), [row("load.is_whole", case="a"), row("load.is_whole", "known", case="b")]
SINCE_2 = ("severity", "raised", "needs")
WHOLE = [HEAD, *ROWS_OF_TOY, footer(ROWS_OF_TOY)]


def test_a_whole_file_is_a_run(tmp_path: Path) -> None:
    """A run has the header, its subjects, and the rows in order."""
    run = read_run(write(tmp_path / "a.jsonl", *WHOLE))
    assert (run.file.name, run.header, list(run.rows)) == ("a.jsonl", HEAD, ROWS_OF_TOY)
    assert [entry["name"] for entry in run.subjects] == ["toy"]


def test_what_the_suite_writes_is_read(tmp_path: Path) -> None:
    """The suite's own writer and this reader agree, even on characters outside ASCII."""
    record = {key: value for key, value in row("load.is_whole", case="ä\u2028b").items() if key != "kind"}
    stream = ResultStream(tmp_path / "a.jsonl", [subject()])
    stream.add(record)
    stream.close()
    assert [entry["case"] for entry in read_run(tmp_path / "a.jsonl").rows] == ["ä\u2028b"]


def test_failures_of_version_1_have_no_severity(tmp_path: Path) -> None:
    """A file that was written before failures had a severity is read."""
    rows = [row("load.is_whole", outcome, outcome) for outcome in ("fail", "known")]
    old = [{key: value for key, value in each.items() if key not in SINCE_2} for each in rows]
    run = read_run(write_run(tmp_path / "a.jsonl", header(schema_version=1), *old))
    assert [each.get("severity") for each in run.rows] == [None, None]


def test_rows_are_separated_by_subject(tmp_path: Path) -> None:
    rows = [row("load.is_whole"), row("load.is_whole", subject="other")]
    run = read_run(write_run(tmp_path / "a.jsonl", header(subject(), subject("other")), *rows))
    assert run.rows_of("other") == (rows[1],)


STRANGE = [row("load.is_whole", subject="he"), footer([row("load.is_whole")])]
UNEXPLAINED = [row("load.is_whole") | {"outcome": "known"}, footer([row("load.is_whole", "known")])]
BROKEN: dict[str, tuple[list[Json], str]] = {
    "empty": ([], "1: expected a footer, found the end of the file; the run was stopped; run it again"),
    "truncated": (WHOLE[:-1], "4: expected a footer, found the end of the file; the run was stopped; run it again"),
    "no header": (WHOLE[1:], "1: expected a header, found kind row; "),
    "two runs": ([*WHOLE, *WHOLE], "5: expected the end of the file, found kind header; "),
    "two headers": ([HEAD, *WHOLE], "2: expected a row or a footer, found kind header; "),
    "no kind": ([HEAD, {}], "2: expected a row or a footer, found kind None; "),
    "other version": ([HEAD | {"schema_version": 3}], "1: header.schema_version: 3 is not one of [1, 2]"),
    "other outcome": ([HEAD, row("load.is_whole", "skipped")], "2: row.outcome: 'skipped' is not one of ['pass', "),
    "unknown key": (
        [HEAD, row("load.is_whole", mood="good")],
        "2: row: Additional properties are not allowed ('mood' was unexpected)",
    ),
    "stranger": ([HEAD, *STRANGE], "2: expected a row of toy, found he; keep the runs apart"),
    "twice": (
        [HEAD, ROWS_OF_TOY[0], *WHOLE[1:]],
        "3: expected every case once, found toy load.is_whole a, which line 2 has already; keep the runs apart",
    ),
    "no reason": (
        [HEAD, *UNEXPLAINED],
        "2: expected an expectation, as the outcome is known, found none; run it again",
    ),
    "no severity": (
        [HEAD, {key: value for key, value in ROWS_OF_TOY[1].items() if key not in SINCE_2}, footer(ROWS_OF_TOY[1:])],
        "2: expected a severity, as the outcome is known, found none; run it again",
    ),
    "namesakes": (
        [header(subject(), subject()), footer([])],
        "1: expected subjects with distinct names, found toy, toy; ",
    ),
    "lost row": (
        [HEAD, ROWS_OF_TOY[0], footer(ROWS_OF_TOY)],
        "3: expected 2 rows, 1 known, 1 pass, as the footer says, found 1 rows, 1 pass; run it again",
    ),
    "other outcomes": (
        [HEAD, ROWS_OF_TOY[0], footer([row("load.is_whole", "fail")])],
        "3: expected 1 rows, 1 fail, as the footer says, found 1 rows, 1 pass; run it again",
    ),
}


@pytest.mark.parametrize(("records", "message"), BROKEN.values(), ids=BROKEN)
def test_invalid_files_are_rejected(tmp_path: Path, records: list[Json], message: str) -> None:
    """A truncated, mixed or invalid file is rejected by file and line."""
    file = write(tmp_path / "a.jsonl", *records)
    with pytest.raises(StreamError, match=f"^{re.escape(str(file))}:{re.escape(message)}"):
        read_run(file)


@pytest.mark.parametrize("end", ["half", "no newline in the footer", "list"])
def test_a_line_that_is_no_record_is_rejected(tmp_path: Path, end: str) -> None:
    """A run that was killed while writing leaves a partial line; the message shows it."""
    last = {"half": '{"kind": "row", "con', "no newline in the footer": '{"kind": "foo', "list": "[1]"}[end]
    file = write(tmp_path / "a.jsonl", HEAD)
    file.write_text(file.read_text(encoding="utf-8") + last, encoding="utf-8")
    with pytest.raises(StreamError, match=r"a.jsonl:2: expected (JSON|an object), found '(\{\"kind\"|\[1\])"):
        read_run(file)


def test_toy_records_follow_the_schema() -> None:
    for record in WHOLE:
        VALIDATOR.validate(record)
