"""Checking a file: the schema where jsonschema is installed, and the rules always."""

import json
import math
import sys
from pathlib import Path

import pytest

from benchmarks.results.validity import Problem, check_file
from tests.reports import toy_benchmarks as toy
from tests.reports.toy_benchmarks import LOSSES


def test_a_file_of_the_toy_has_no_problem(tmp_path: Path) -> None:
    assert check_file(toy.write(tmp_path / "a.json", toy.result())) == []


def test_a_file_that_breaks_the_schema_has_only_that(tmp_path: Path) -> None:
    """The rules would fail on it in other ways."""
    broken = toy.result(environment={}, cells=[toy.load() | {"outcome": "skipped"}])
    problems = check_file(toy.write(tmp_path / "a.json", broken))
    assert {problem.rule for problem in problems} == {"schema"}
    assert problems[0].text.startswith("cells[0].outcome: 'skipped' is not one of ['measured', ")
    assert any(problem.text.startswith("environment: 'slug' is a required property") for problem in problems)


def test_a_file_is_checked_against_the_rules(tmp_path: Path) -> None:
    """NaN, which Python's json writes and reads, is found too."""
    file = toy.write(tmp_path / "a.json", toy.result(toy.step(losses=[math.nan, *LOSSES])))
    assert [problem.rule for problem in check_file(file)] == ["losses_are_finite"]


@pytest.mark.parametrize("text", ["", '{"cells": [', "\x00"])
def test_a_file_that_is_no_json_is_invalid(tmp_path: Path, text: str) -> None:
    (problem,) = check_file(toy.write(tmp_path / "a.json", text))
    assert (problem.rule, problem.invalid) == ("schema", True)
    assert problem.text.startswith("expected JSON, found ")


def test_without_jsonschema_the_rules_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note says so, and a file that the rules cannot read is still invalid."""
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    note = Problem("schema", "not compared with the schema: jsonschema is not installed", invalid=False)
    assert check_file(toy.write(tmp_path / "good.json", toy.result())) == [note]
    problems = check_file(toy.write(tmp_path / "wrong.json", toy.result(toy.load(digest=None))))
    assert [problem.rule for problem in problems] == ["schema", "loads_what_is_expected"]
    for number, other in enumerate([{}, [], {**toy.result(), "cells": [{}]}, 1]):
        first, second = check_file(toy.write(tmp_path / f"{number}.json", json.dumps(other)))
        assert (first, second.rule, second.invalid) == (note, "schema", True)
