"""The severity of a failure comes from what the subject did, whether it runs here or in another process."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from suite.session.find import find_subject
from suite.session.severity import severity_of
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_paths, refused

HARNESS = """
import os
import time

NAME = "toy"
TRAITS = ()


def describe():
    return {}


def restore(path, dtype):
    if path == "values":
        return {"head/w": 0}
    if path == "memory":
        raise MemoryError("9 exabytes")
    if path == "xla":
        raise RuntimeError("RESOURCE_EXHAUSTED: 9 exabytes")
    if path == "die":
        os._exit(3)
    if path == "hang":
        time.sleep(60)
    raise {
        "key": KeyError, "index": IndexError, "type": TypeError, "attribute": AttributeError, "exit": SystemExit,
        "value": ValueError, "os": OSError, "assert": AssertionError, "own": type("OwnKeyError", (KeyError,), {}),
    }[path]("head/w")
"""
CRASHES = ("key", "index", "type", "attribute", "exit", "memory", "xla")
REFUSALS = ("value", "os", "assert", "own")


@pytest.fixture(params=["here", "elsewhere"])
def toy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    """Return the toy subject, in this process or in another one."""
    (tmp_path / "toy.py").write_text(HARNESS)
    python = "" if request.param == "here" else f"={sys.executable}"
    subject = find_subject(f"{tmp_path / 'toy.py'}{python}", timeout=2)
    yield subject
    subject.rest()


def failure(law: Callable[[], object]) -> BaseException:
    """Return the exception that a law ends with."""
    with pytest.raises(BaseException, match=r".") as failed:
        law()
    return failed.value


def is_refused(toy: Subject, path: str) -> None:
    """Demand a refusal that names something that no error of the toy has."""
    with refused("head/b"):
        toy.restore(path, None)


@pytest.mark.parametrize("path", CRASHES)
def test_an_error_that_no_loader_raises_on_purpose_is_a_crash(toy: Subject, path: str) -> None:
    """Such an error is a crash where a result is demanded, and where a refusal is."""
    assert severity_of(failure(lambda: toy.restore(path, None))) == "crash"
    assert severity_of(failure(lambda: is_refused(toy, path))) == "crash"


@pytest.mark.parametrize("path", REFUSALS)
def test_an_error_on_purpose_is_unclear(toy: Subject, path: str) -> None:
    """An error of the loader's own is unclear where a result is demanded, and where a clearer refusal is."""
    assert severity_of(failure(lambda: toy.restore(path, None))) == "unclear"
    assert severity_of(failure(lambda: is_refused(toy, path))) == "unclear"


@pytest.mark.parametrize("toy", ["elsewhere"], indirect=True)
@pytest.mark.parametrize("path", ["die", "hang"])
def test_a_process_that_does_not_answer_is_a_crash(toy: Subject, path: str) -> None:
    """A process that dies or hangs is a crash, also where a refusal is demanded."""
    assert severity_of(failure(lambda: is_refused(toy, path))) == "crash"


def test_acceptance_is_silent(toy: Subject) -> None:
    """A result where a refusal is demanded is silent, and so is one that the suite finds wrong."""
    assert severity_of(failure(lambda: is_refused(toy, "values"))) == "silent"
    assert severity_of(failure(lambda: assert_same_paths(toy.restore("values", None), {"head/b"}))) == "silent"


def test_a_wrong_result_within_a_refusal_is_silent(toy: Subject) -> None:
    """An assertion about an accepted result is silent where a refusal is demanded."""

    def law() -> None:
        with refused("head/b"):
            assert_same_paths(toy.restore("values", None), {"head/b"})

    assert severity_of(failure(law)) == "silent"


def test_an_assertion_about_an_error_is_as_bad_as_the_error(toy: Subject) -> None:
    """An assertion in the handling of a subject's error has the error's severity."""

    def law(path: str) -> None:
        try:
            toy.restore(path, None)
        except Exception as error:  # noqa: BLE001 - a law handles any error of the subject
            assert "head/b" in str(error)  # noqa: PT017 - as laws do

    assert severity_of(failure(lambda: law("value"))) == "unclear"
    assert severity_of(failure(lambda: law("key"))) == "crash"


def test_a_missing_operation_is_unclear(toy: Subject) -> None:
    """An operation that is missing although a law needs it was refused on purpose."""
    assert severity_of(failure(lambda: toy.save({}, {}, "x"))) == "unclear"


def test_a_group_is_as_bad_as_its_worst(toy: Subject) -> None:
    """Hypothesis raises several failures as a group."""
    errors = [failure(partial(is_refused, toy, path)) for path in ("value", "key", "values")]
    for count, severity in enumerate(("unclear", "crash", "silent"), start=1):
        assert severity_of(BaseExceptionGroup("several", errors[:count])) == severity
