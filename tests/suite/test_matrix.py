"""The matrix of faults and contracts: what counts as caught, and which problems it reports."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from suite.faults.fault import Fault
from suite.mutation.__main__ import main
from suite.mutation.matrix import Matrix

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "reports/schema/faults.schema.json").read_text())
MATRIX = ROOT / "reports/faults.jsonl"


def fault(name: str, *caught_by: str) -> Fault:
    return Fault(id=name, story=f"story of {name}", evidence="e", patches=(), caught_by=caught_by, bugs=("A1",))


def row(name: str, contract: str, outcome: str, case: str = "") -> dict[str, Any]:
    return {"subject": f"fault:{name}", "contract": contract, "outcome": outcome, "case": case}


def test_a_contract_catches_with_its_first_failing_case() -> None:
    rows = [row("f", "a.x", "pass", "1"), row("f", "a.x", "fail", "2"), row("f", "a.x", "fail", "3")]
    matrix = Matrix.of(rows)
    assert matrix.caught["f"] == {"a.x": "2"}
    assert not matrix.passed["f"]


@pytest.mark.parametrize("outcome", ["pass", "absent", "error"])
def test_only_a_failure_catches(outcome: str) -> None:
    matrix = Matrix.of([row("f", "a.x", outcome)])
    assert matrix.problems([fault("f")], []) == ["nothing catches f: story of f"]


def test_a_caught_fault_is_no_problem() -> None:
    assert not Matrix.of([row("f", "a.x", "fail")]).problems([fault("f", "a.x")], ["a.x"])


def test_a_named_contract_that_misses_its_fault_is_reported() -> None:
    matrix = Matrix.of([row("f", "a.x", "fail"), row("f", "a.y", "pass")])
    problems = matrix.problems([fault("f", "a.x", "a.y")], [])
    assert problems == ["a.y does not catch f: story of f"]


def test_a_contract_that_catches_nothing_is_reported() -> None:
    matrix = Matrix.of([row("f", "a.x", "fail"), row("f", "a.y", "pass")])
    assert matrix.problems([fault("f")], ["a.x", "a.y"]) == ["a.y catches no fault"]


def test_the_file_has_a_line_for_each_fault_between_header_and_footer(tmp_path: Path) -> None:
    matrix = Matrix.of([row("f", "a.x", "fail", "2"), row("f", "a.y", "pass"), row("g", "a.x", "pass")])
    matrix.write(tmp_path / "matrix.jsonl", [fault("f", "a.x"), fault("g")])
    header, first, second, footer = [json.loads(line) for line in (tmp_path / "matrix.jsonl").read_text().splitlines()]
    assert header["contracts"] == ["a.x", "a.y"]
    assert (first["fault"], first["caught_by"], first["passed"]) == ("f", {"a.x": "2"}, 1)
    assert (second["fault"], second["caught_by"], second["passed"]) == ("g", {}, 1)
    for line in (header, first, second, footer):
        jsonschema.Draft202012Validator(SCHEMA).validate(line)
    assert (footer["rows"], footer["caught"]) == (2, 1)


def test_the_committed_matrix_is_whole_and_follows_the_schema() -> None:
    lines = [json.loads(line) for line in MATRIX.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        jsonschema.Draft202012Validator(SCHEMA).validate(line)
    assert [lines[0]["kind"], lines[-1]["kind"]] == ["header", "footer"]
    assert lines[-1]["rows"] == lines[-1]["caught"] == len(lines) - 2


def test_the_run_prints_what_is_caught_and_no_failure(capfd: pytest.CaptureFixture[str]) -> None:
    """A fault that is caught is what the run is for: nothing of it reads like a project whose tests fail."""
    command = [sys.executable, "-m", "suite.mutation", "--named", "--only", "describes_no_versions"]
    result = subprocess.run([*command, "-p", "no:cacheprovider"], check=False, cwd=ROOT)
    out, err = capfd.readouterr()
    assert (result.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "1 of 1 faults caught"
    assert "1 caught" in out
    assert not re.search("fail", out, re.IGNORECASE)


def test_an_unknown_fault_is_refused_with_the_closest_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Not with the names of all faults, which fill a screen."""
    with pytest.raises(SystemExit):
        main(["--only", "describes_no_version"])
    error = capsys.readouterr().err
    assert "no fault describes_no_version; did you mean describes_no_versions" in error
    assert len(error) < 1000


def test_a_fault_that_gets_past_is_named_after_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends with the contract that misses it, what is wrong with the fault, and how many such there are."""
    matrix = Matrix.of([row("describes_no_versions", "subject.describes_itself", "pass")])
    monkeypatch.setattr("suite.mutation.__main__.run_contracts", lambda *_, **__: matrix)
    assert main(["--named", "--only", "describes_no_versions"]) == 1
    out, err = capsys.readouterr()
    assert out == "0 of 1 faults caught\n"
    missed, uncaught, count = err.splitlines()
    assert missed.startswith("error: subject.describes_itself does not catch describes_no_versions: Results do not")
    assert uncaught.startswith("error: nothing catches describes_no_versions: ")
    assert count == "2 problems, named above"
