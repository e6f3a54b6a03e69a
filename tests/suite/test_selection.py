"""Which case of a contract a fault is shown to first, and what is left out once it is caught."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import Phase, settings

from suite.faults import all_faults
from suite.mutation import selection
from suite.session import profiles
from suite.subjects.protocol import Subject

pytest_plugins = ["pytester"]

FAULT = next(iter(all_faults()))
CONTRACTS = '''
import pytest
from suite.session.registry import contract

@contract(source="Newton", needs=("init",))
@pytest.mark.parametrize("height", ["low", "middle", "high"])
def test_apples_fall(subject, height):
    """Apples fall."""
    assert subject.init({}, height) == {"a/w": height}
'''


@pytest.fixture(autouse=True)
def _profile() -> Iterator[None]:
    """Restore the profile of Hypothesis, which the plugin replaces for the whole process."""
    yield
    profiles.register()


def current() -> settings:
    """Return the settings that a test without its own would have now."""
    assert settings.default is not None
    return settings.default


def cases(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, recorded: Path) -> list[tuple[str, str]]:
    """Return case and outcome in the order in which they ran, for a fault that shows at every height but the lowest."""
    toy = Subject(
        SimpleNamespace(
            NAME="reference",
            TRAITS=(),
            describe=dict,
            init=lambda _, height: {"a/w": height if height == "low" else "floats"},
        )
    )
    monkeypatch.setattr("suite.session.roster.find_subject", lambda name, timeout: toy)
    monkeypatch.setattr(selection, "_RECORDED", recorded)
    pytester.makepyfile(test_sky=CONTRACTS)
    options = ("-p", "suite.session.plugin", "-p", "suite.mutation.selection", "--results", "results.jsonl")
    pytester.runpytest_inprocess(*options, "--subject", f"fault:{FAULT}")
    lines = [json.loads(line) for line in (pytester.path / "results.jsonl").read_text().splitlines()]
    return [(line["case"], line["outcome"]) for line in lines if line["kind"] == "row"]


def record(folder: Path, **caught_by: str) -> Path:
    """Write a recorded run in which contracts caught the fault, each with a case."""
    row = {"kind": "row", "fault": FAULT, "caught_by": {f"sky.{fact}": case for fact, case in caught_by.items()}}
    file = folder / "recorded.jsonl"
    file.write_text("\n".join(map(json.dumps, ({"kind": "header"}, row, {"kind": "footer"}))), encoding="utf-8")
    return file


def test_the_case_that_caught_it_before_comes_first(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If it catches the fault again, the other cases are left out."""
    found = cases(pytester, monkeypatch, record(tmp_path, apples_fall="high"))
    assert [case for case, _ in found] == ["high", "low", "middle"]
    assert [outcome for _, outcome in found] == ["fail", "absent", "absent"]


@pytest.mark.parametrize("recorded", ["low", "a case of another day"])
def test_an_outdated_record_only_costs_time(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recorded: str
) -> None:
    """If the recorded case passes, or does not exist, the others run until one catches the fault."""
    found = cases(pytester, monkeypatch, record(tmp_path, apples_fall=recorded))
    assert found == [("low", "pass"), ("middle", "fail"), ("high", "absent")]


def test_without_a_record_the_order_is_that_of_the_file(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = cases(pytester, monkeypatch, tmp_path / "nothing.jsonl")
    assert found == [("low", "pass"), ("middle", "fail"), ("high", "absent")]


def test_examples_are_not_shrunk(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An example that shows the fault suffices; the settings are otherwise those of the chosen profile."""
    wanted = current().max_examples
    cases(pytester, monkeypatch, tmp_path / "nothing.jsonl")
    assert not {Phase.shrink, Phase.explain} & set(current().phases)
    assert {Phase.explicit, Phase.generate} <= set(current().phases)
    assert current().max_examples == wanted
