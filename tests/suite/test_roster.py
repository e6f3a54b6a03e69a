"""Whom a run asks: by name, with an interpreter, or all who can be had."""

from types import SimpleNamespace

import pytest

from suite.session.roster import Roster
from suite.subjects.protocol import Subject, UnavailableError

KNOWN = ["reference", "away", "here"]


@pytest.fixture(autouse=True)
def finds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three subjects are known, one of which cannot be had without an interpreter; what was made, in order."""
    made: list[str] = []

    def find(asked_as: str, timeout: float) -> Subject:
        made.append(asked_as)
        if asked_as == "away":
            raise UnavailableError("cannot be imported")
        name = asked_as.partition("=")[0]
        return Subject(SimpleNamespace(NAME=name, TRAITS=(), describe=dict, rest=lambda: made.append(f"rest {name}")))

    monkeypatch.setattr("suite.session.roster.find_subject", find)
    monkeypatch.setattr("suite.session.roster.known_subjects", lambda: KNOWN)
    return made


def roster(*names: str, required: tuple[str, ...] = ()) -> Roster:
    return Roster(names, required, [], timeout=1)


def test_without_a_name_it_is_the_reference() -> None:
    """The default is the reference alone."""
    assert roster().names == ["reference"]


def test_all_are_those_that_come_with_the_suite() -> None:
    """All stands for every known subject; one with an interpreter has it, one that is given as a path joins them."""
    assert roster("all", "here=/x/python", "./mine.py").names == ["reference", "away", "here=/x/python", "./mine.py"]


def test_of_all_one_that_cannot_be_had_is_unavailable() -> None:
    """It has a reason, a description and no expectations; the others can be had."""
    all_of_them = roster("all")
    assert all_of_them.unavailable("away") == "cannot be imported"
    described = {"name": "away", "capabilities": [], "unavailable": "cannot be imported"}
    assert all_of_them.describe("away") == described
    assert all_of_them.expected("away") == ()
    assert all_of_them.unavailable("here") is None
    all_of_them.make()


@pytest.mark.parametrize(
    ("names", "required"), [(["all"], "away"), (["away"], ""), (["all", "away"], "")], ids=["required", "named", "both"]
)
def test_one_that_has_to_be_had_is_an_error(names: list[str], required: str) -> None:
    """Required, or asked for by its name, a subject that cannot be had stops the run."""
    asked = roster(*names, required=tuple(filter(None, [required])))
    with pytest.raises(pytest.UsageError, match="--subject away: UnavailableError: cannot be imported"):
        asked.make()


def test_required_is_one_that_is_asked() -> None:
    """A required subject that nobody asks is an error, with what to add."""
    with pytest.raises(pytest.UsageError, match=r"--require-subject here: is not asked; add --subject here\[=PYTHON\]"):
        roster("reference", required=("here",))


def test_nobody_is_asked_twice() -> None:
    """One name with two interpreters would give rows that cannot be told apart."""
    with pytest.raises(pytest.UsageError, match="asked for twice"):
        roster("here=/a/python", "here=/b/python")


def test_whoever_is_not_asked_rests(finds: list[str]) -> None:
    """Processes of other implementations take memory: when another subject is asked, they end."""
    both = roster("reference", "here")
    both.make()
    finds.clear()
    both.get("here")
    both.get("here")
    assert finds == ["rest reference", "rest reference"]
