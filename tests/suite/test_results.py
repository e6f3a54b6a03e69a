"""The results file: header, rows and footer, each line according to the schema in reports/."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from suite.session.results import SCHEMA_VERSION, ResultStream, without_folders
from suite.session.severity import SEVERITIES
from suite.session.summary import OUTCOMES

SCHEMA = json.loads((Path(__file__).parents[2] / "reports/schema/rows.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SUBJECT = {"name": "toy", "capabilities": ["init"], "version": "1.2"}
ROW = {
    "contract": "load.is_whole",
    "law": "A load is whole.",
    "source": "openpi #1",
    "case": "",
    "subject": "toy",
    "outcome": "pass",
    "seconds": 0.25,
    "message": "",
}

FAILURE = {"severity": "silent", "raised": "AssertionError", "needs": ["load"]}


def lines(file: Path) -> list[dict[str, Any]]:
    """Return the records of a results file, each validated."""
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for record in records:
        VALIDATOR.validate(record)
    return records


def test_schema_is_a_schema() -> None:
    """The schema itself is valid, and has this version and the summary's outcomes."""
    VALIDATOR.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["header"]["properties"]["schema_version"]["enum"] == [1, SCHEMA_VERSION]
    assert SCHEMA["$defs"]["row"]["properties"]["severity"]["enum"] == list(SEVERITIES)
    assert SCHEMA["$defs"]["outcome"]["enum"] == list(OUTCOMES)


def test_stream_is_header_rows_footer(tmp_path: Path) -> None:
    """A closed stream is a header with the subjects, the rows in order, and a footer that counts them."""
    stream = ResultStream(tmp_path / "new" / "results.jsonl", [SUBJECT])
    failure = {"outcome": "fail", **FAILURE, "message": "expected 1"}
    rows = [ROW, ROW | {"case": "ä", **failure}, ROW]
    for row in rows:
        stream.add(row)
    stream.close()
    header, *written, footer = lines(tmp_path / "new" / "results.jsonl")
    assert header["subjects"] == [SUBJECT]
    assert written == [{"kind": "row", **row} for row in rows]
    assert footer == {"kind": "footer", "rows": 3, "outcomes": {"fail": 1, "pass": 2}}


def test_rows_are_written_immediately(tmp_path: Path) -> None:
    """Before it is closed, a stream can be read up to its last row and lacks a footer."""
    stream = ResultStream(tmp_path / "results.jsonl", [SUBJECT])
    assert [record["kind"] for record in lines(tmp_path / "results.jsonl")] == ["header"]
    stream.add(ROW)
    assert [record["kind"] for record in lines(tmp_path / "results.jsonl")] == ["header", "row"]
    stream.close()


def test_empty_run_has_a_footer(tmp_path: Path) -> None:
    """A run without rows is complete with header and footer."""
    ResultStream(tmp_path / "results.jsonl", [SUBJECT]).close()
    assert lines(tmp_path / "results.jsonl")[-1] == {"kind": "footer", "rows": 0, "outcomes": {}}


def test_header_has_the_flags_that_change_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header has the flags that are set, and only those."""
    for name in ("CI", "XLA_FLAGS", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HYPOTHESIS_PROFILE", "thorough")
    ResultStream(tmp_path / "results.jsonl", [SUBJECT]).close()
    assert lines(tmp_path / "results.jsonl")[0]["flags"] == {"HYPOTHESIS_PROFILE": "thorough"}


WRONG = {
    "unknown outcome": {"kind": "row", **ROW, "outcome": "skipped"},
    "unknown key": {"kind": "row", **ROW, "notes": ""},
    "unknown severity": {"kind": "row", **ROW, **FAILURE, "outcome": "fail", "severity": "bad"},
    "severity alone": {"kind": "row", **ROW, "outcome": "fail", "severity": "crash"},
    "severity of a pass": {"kind": "row", **ROW, **FAILURE},
    "no law": {"kind": "row", **ROW, "law": ""},
    "id without area": {"kind": "row", **ROW, "contract": "is_whole"},
    "no kind": ROW,
    "footer without counts": {"kind": "footer", "rows": 1},
    "nothing": {},
}


@pytest.mark.parametrize("record", WRONG.values(), ids=WRONG)
def test_other_lines_are_invalid(record: dict[str, Any]) -> None:
    """The schema rejects lines that the stream does not write."""
    assert not VALIDATOR.is_valid(record)


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("--subject openpi=/opt/me/openpi/.venv/bin/python", "--subject openpi=.../python"),
        (
            "FileNotFoundError: '/opt/run-1/params/_METADATA' (at /srv/x.py:3)",
            "FileNotFoundError: '.../_METADATA' (at .../x.py:3)",
        ),
        ("PaliGemma/llm/layers/attn/q_einsum/w: see https://example.org/a/b#L1", None),
        ("./my_harness.py ../openpi/python -- 1/2 a//b", None),
    ],
)
def test_folders_of_a_machine_are_not_published(text: str, published: str | None) -> None:
    """Only the last part of an absolute path remains; parameters, URLs and relative paths are unchanged."""
    assert without_folders(text) == (text if published is None else published)
