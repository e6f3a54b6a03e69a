"""The subjects of a run: by name, with an interpreter, or all that are available."""

from types import SimpleNamespace

import pytest

from suite.session.roster import Roster
from suite.subjects.protocol import Subject, UnavailableError

KNOWN = ["reference", "away", "here"]


@pytest.fixture(autouse=True)
def finds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make three subjects known, of which `away` needs an interpreter; return what was created, in order."""
    created: list[str] = []

    def find(asked_as: str, timeout: float) -> Subject:
        created.append(asked_as)
        if asked_as == "away":
            raise UnavailableError("cannot be imported")
        name = asked_as.partition("=")[0]
        return Subject(
            SimpleNamespace(NAME=name, TRAITS=(), describe=dict, rest=lambda: created.append(f"rest {name}"))
        )

    monkeypatch.setattr("suite.session.roster.find_subject", find)
    monkeypatch.setattr("suite.session.roster.known_subjects", lambda: KNOWN)
    return created


def roster(*names: str, required: tuple[str, ...] = ()) -> Roster:
    return Roster(names, required, [], timeout=1)


def test_the_default_is_the_reference() -> None:
    """Without a name, the reference alone runs."""
    assert roster().names == ["reference"]


def test_all_means_the_subjects_of_the_suite() -> None:
    """All means every known subject; one may have an interpreter, and a path may be added."""
    assert roster("all", "here=/x/python", "./mine.py").names == ["reference", "away", "here=/x/python", "./mine.py"]


def test_all_includes_unavailable_subjects() -> None:
    """An unavailable subject has a reason, a description and no expectations; the others are available."""
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
def test_an_unavailable_subject_that_is_required_is_an_error(names: list[str], required: str) -> None:
    """An unavailable subject stops the run if it is required or given by name."""
    run = roster(*names, required=tuple(filter(None, [required])))
    with pytest.raises(pytest.UsageError, match="--subject away: UnavailableError: cannot be imported"):
        run.make()


def test_a_required_subject_must_be_in_the_run() -> None:
    """A required subject outside the run is an error that says what to add."""
    with pytest.raises(pytest.UsageError, match=r"--require-subject here: not selected; add --subject here\[=PYTHON\]"):
        roster("reference", required=("here",))


def test_a_subject_runs_only_once() -> None:
    """Rows of one name with two interpreters could not be distinguished."""
    with pytest.raises(pytest.UsageError, match="given twice"):
        roster("here=/a/python", "here=/b/python")


def test_idle_subjects_rest(finds: list[str]) -> None:
    """Processes of other implementations take memory, so they end when another subject runs."""
    both = roster("reference", "here")
    both.make()
    finds.clear()
    both.get("here")
    both.get("here")
    assert finds == ["rest reference", "rest reference"]
