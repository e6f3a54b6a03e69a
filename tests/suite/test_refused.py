"""`refused` counts the subject's errors and nothing else, whether the subject runs here or in another process."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from suite.session.find import find_subject
from suite.subjects.marks import operation_of
from suite.subjects.process.elsewhere import elsewhere
from suite.subjects.protocol import ProcessDiedError, Subject, UnavailableError, Unsupported
from suite.writing.asserts import assert_same_paths, refused

HARNESS = '''
import dataclasses
import os
import time

import numpy as np

NAME = "toy"
TRAITS = ()


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    path: str


def describe():
    return {}


def restore(path, dtype):
    """Behave as the path says."""
    if path == "crash":
        return [][0]
    if path == "die":
        os._exit(3)
    if path == "hang":
        time.sleep(60)
    if path == "unclear":
        raise ValueError("bad checkpoint")
    if path == "clear":
        raise ValueError("head/w: missing in clear")
    if path == "assert":
        assert path is None, "head/w"
    if path == "frozen":
        raise Frozen("head/w")
    return {"head/w": np.zeros(1)}
'''
OTHER = {"head/w": np.ones(1), "head/b": np.ones(1)}


@pytest.fixture(params=["here", "elsewhere"])
def toy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    """Return the toy subject, in this process or in another one."""
    (tmp_path / "toy.py").write_text(HARNESS)
    python = "" if request.param == "here" else f"={sys.executable}"
    subject = find_subject(f"{tmp_path / 'toy.py'}{python}", timeout=2)
    yield subject
    subject.rest()


def test_a_clear_refusal_passes(toy: Subject) -> None:
    """An error of the subject that names everything is a refusal."""
    with refused("head/w", "clear"):
        toy.restore("clear", None)


@pytest.mark.parametrize(("path", "kind"), [("unclear", "ValueError"), ("crash", "IndexError")])
def test_an_error_that_names_nothing_is_unclear(toy: Subject, path: str, kind: str) -> None:
    """A refusal without the parameter fails, with the subject's own error as its cause."""
    with pytest.raises(AssertionError, match=rf"without naming \['head/w'\]: .*{kind}") as failed, refused("head/w"):
        toy.restore(path, None)
    assert failed.value.__cause__ is not None
    assert operation_of(failed.value.__cause__) == "restore"


@pytest.mark.parametrize("path", ["assert", "frozen"])
def test_any_kind_of_error_of_the_subject_counts(toy: Subject, path: str) -> None:
    """An assertion of the subject's own, and an error whose class allows no attributes, are errors of the subject."""
    with refused("head/w"):
        toy.restore(path, None)
    with pytest.raises(AssertionError, match="without naming"), refused("head/b"):
        toy.restore(path, None)


def test_acceptance_names_the_operation(toy: Subject) -> None:
    """A result is no refusal, and the failure says which operation returned and what its error was to name."""
    message = r"accepted, expected an error: restore returned instead of raising an error that names 'head/w', 'x'"
    with pytest.raises(AssertionError, match=message), refused("head/w", "x"):
        toy.restore("x", None)


def test_an_assertion_of_the_suite_is_no_refusal(toy: Subject) -> None:
    """What the suite asserts about an accepted result fails as itself, even if its text has what was to be named."""
    with pytest.raises(AssertionError, match=r"^1 paths are missing .*\n.*head/b") as failed, refused("head/b"):
        assert_same_paths(toy.restore("x", None), OTHER)
    assert operation_of(failed.value) is None
    [note] = failed.value.__notes__
    assert note.startswith("accepted, then this: restore returned")


def test_a_mistake_of_the_suite_is_no_refusal(toy: Subject) -> None:
    """Any other error that no operation raised fails as itself, with a note only if an operation returned."""
    with pytest.raises(KeyError, match="head/b") as failed, refused("head/b"):
        toy.restore("x", None)["head/b"]
    assert failed.value.__notes__
    with pytest.raises(KeyError, match="head/b") as failed, refused("head/b"):
        raise KeyError("head/b")
    assert not hasattr(failed.value, "__notes__")


def test_a_missing_operation_is_no_refusal(toy: Subject) -> None:
    """An operation that is not offered refused nothing."""
    with pytest.raises(Unsupported, match="toy does not offer save") as failed, refused("save"):
        toy.save({}, {}, "x")
    assert operation_of(failed.value) is None


@pytest.mark.parametrize("toy", ["elsewhere"], indirect=True)
@pytest.mark.parametrize("way", ["die", "hang"])
def test_an_end_without_an_answer_is_no_refusal(toy: Subject, way: str) -> None:
    """A process that dies or hangs refused nothing; the error is the subject's, and passes through."""
    with pytest.raises(ProcessDiedError, match="toy, restore") as failed, refused("restore"):
        toy.restore(way, None)
    assert operation_of(failed.value) == "restore"


@pytest.mark.parametrize("toy", ["elsewhere"], indirect=True)
def test_a_process_that_no_longer_starts_is_no_refusal(toy: Subject, tmp_path: Path) -> None:
    """A subject that became unavailable in the middle of a run refused nothing."""
    toy.rest()
    (tmp_path / "toy.py").write_text("import no_such_package")
    with pytest.raises(UnavailableError, match="no_such_package"), refused("no_such_package"):
        toy.restore("clear", None)


def test_a_process_of_its_own_marks_its_errors(toy: Subject) -> None:
    """An error that comes back from a contract's own process is the subject's, whichever way it was called."""
    with elsewhere(toy) as process:
        with refused("head/w"):
            process.restore("clear", None)
        process.start("restore", "clear", None)
        with refused("head/w"):
            process.result()
        with refused("head/w"):
            process.memory_of("restore", "clear", None)
        process.start("restore", "x", None)
        with pytest.raises(AssertionError, match="accepted, expected an error: restore returned"), refused():
            process.result()


def test_the_innermost_operation_counts(toy: Subject) -> None:
    """A harness that calls another subject leaves the name of the operation that failed."""
    outer = Subject(type("Outer", (), {"NAME": "outer", "TRAITS": (), "load": lambda *_: toy.restore("unclear", None)}))
    with pytest.raises(Exception, match="bad checkpoint") as failed:
        outer.load({}, {}, 0)
    assert operation_of(failed.value) == "restore"


def test_the_toy_raises_a_frozen_error() -> None:
    """The error above really allows no attributes, so that its mark proves something."""
    error = dataclasses.make_dataclass("Frozen", ["path"], bases=(Exception,), frozen=True)("head/w")
    with pytest.raises(dataclasses.FrozenInstanceError):
        error.pi0_compat_operation = "restore"
