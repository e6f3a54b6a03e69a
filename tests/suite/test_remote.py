"""A subject in another interpreter needs only its file, and the end of that process costs one call."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from suite.session.find import find_subject
from suite.subjects.process.elsewhere import elsewhere
from suite.subjects.process.harness_files import FOREIGN, foreign_names, harness_file, sources_of
from suite.subjects.protocol import ProcessDiedError, Subject, SubjectError, UnavailableError, Unsupported
from suite.writing.asserts import refused

HARNESS = """
import importlib.util
import os
import sys
import time

import numpy as np

NAME = "small"
TRAITS = ("lora",)


def describe():
    return {"version": "1.2", "python": sys.executable}


def restore(path, dtype):
    if path == "hang":
        time.sleep(60)
    if path == "die":
        os.kill(os.getpid(), 9)
    if path == "raise":
        raise KeyError("no such leaf")
    return {"pid": np.array(os.getpid()), "project": np.array(importlib.util.find_spec("suite") is not None)}


def fold(model, params):
    return {path: 2 * array for path, array in params.items()}


def merge(model, base, lora):
    return object()
"""


@pytest.fixture
def argument(tmp_path: Path) -> str:
    (tmp_path / "my-harness.py").write_text(HARNESS)
    return f"{tmp_path / 'my-harness.py'}={sys.executable}"


@pytest.fixture
def small(argument: str) -> Iterator[Subject]:
    subject = find_subject(argument, timeout=20)
    yield subject
    subject.rest()


def test_the_harness_describes_itself(small: Subject) -> None:
    """Name, capabilities and description are the harness's, from the requested interpreter."""
    described = {
        "name": "small",
        "capabilities": ["fold", "lora", "merge", "restore"],
        "version": "1.2",
        "python": sys.executable,
    }
    assert small.describe() == described
    with pytest.raises(Unsupported):
        small.save({}, {}, "x")


def test_this_project_cannot_be_imported(small: Subject) -> None:
    """The other process cannot import this project, although it was started from its folder."""
    assert not small.restore("x", None)["project"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "int8"])
def test_arrays_travel_both_ways(small: Subject, dtype: str) -> None:
    """Arrays of any dtype come back as the harness computed them."""
    import ml_dtypes

    given = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    doubled = small.fold({}, {"a/w": given})["a/w"]
    assert (doubled.dtype, doubled.tolist()) == (given.dtype, (2 * given).tolist())


def test_an_exception_has_its_type_text_and_place(small: Subject) -> None:
    """An exception of an operation is raised here, with type, text and the line of the user's own file, and the process
    continues."""
    pid = small.restore("x", None)["pid"]
    with pytest.raises(SubjectError, match=r"KeyError: 'no such leaf' \(at /.*/my-harness\.py:23\)") as failed:
        small.restore("raise", None)
    assert failed.value.kind == "KeyError"
    assert small.restore("x", None)["pid"] == pid


@pytest.mark.parametrize("way", ["die", "hang"])
def test_a_process_that_dies_costs_one_call(argument: str, way: str) -> None:
    """A crash or a hang raises, even where a refusal is expected, and another process answers the next call."""
    small = find_subject(argument, timeout=20 if way == "die" else 3)
    pid = small.restore("x", None)["pid"]
    with pytest.raises(ProcessDiedError, match=r"small, restore: (the process ended|no answer within 3 s)"), refused():
        small.restore(way, None)
    assert small.restore("x", None)["pid"] not in (pid, 0)
    small.rest()


def test_a_result_that_cannot_be_sent_is_an_error(small: Subject) -> None:
    """A result that is neither plain data nor an array is an error of that call."""
    with pytest.raises(SubjectError, match="TypeError: a object cannot travel"):
        small.merge({}, {}, {})


def test_it_runs_elsewhere(small: Subject) -> None:
    """A contract that needs a process of its own gets one of the same interpreter and harness."""
    with elsewhere(small) as process:
        assert process.describe() == {"version": "1.2", "python": sys.executable}
        assert process.restore("x", None)["pid"] == process.pid != small.restore("x", None)["pid"]


def test_a_harness_that_cannot_be_imported_is_unavailable(tmp_path: Path) -> None:
    """The error names the interpreter, the missing package, and how to select another interpreter."""
    (tmp_path / "mine.py").write_text("import no_such_package\n")
    with pytest.raises(UnavailableError, match=rf"{sys.executable}.*no_such_package.*mine\.py=PYTHON"):
        find_subject(f"{tmp_path / 'mine.py'}={sys.executable}")


def test_a_missing_interpreter_is_unavailable(argument: str) -> None:
    """A path that cannot be executed is named."""
    with pytest.raises(UnavailableError, match=r"/nowhere/python: no such interpreter"):
        find_subject(f"{argument.partition('=')[0]}=/nowhere/python")


@pytest.mark.parametrize("name", ["reference", "reference:bf16", "fault:fresh_lora_b_is_random"])
def test_subjects_of_this_project_accept_no_interpreter(name: str) -> None:
    """The reference and its variants run where the suite runs."""
    with pytest.raises(LookupError, match=name):
        find_subject(f"{name}={sys.executable}")


@pytest.mark.parametrize("name", foreign_names())
def test_a_foreign_harness_brings_its_siblings(name: str) -> None:
    """All modules of the folder are sent, and nothing else."""
    module, sources = sources_of(harness_file(name))
    assert module in sources
    siblings = {f"pi0_compat_sent.harnesses.{file.stem}" for file in FOREIGN.glob("*.py") if file.stem != "__init__"}
    assert sources.keys() == siblings
