"""A subject in another process gives the same answers, and the end of that process costs nothing here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.session.find import find_subject
from suite.subjects.process.elsewhere import Elsewhere, elsewhere
from suite.subjects.protocol import (
    OutOfMemoryError,
    ProcessDiedError,
    ProcessKilledError,
    Subject,
    SubjectError,
    Unsupported,
)
from suite.writing.asserts import assert_same_bits

HARNESS = """
import os
import time
import numpy as np

NAME = "small"
TRAITS = ("lora",)


def describe():
    return {}


def restore(path, dtype):
    if path == "hang":
        time.sleep(60)
    if path == "die":
        os._exit(3)
    if path == "raise":
        raise KeyError("no such leaf")
    if path == "grow":
        raise MemoryError("9 exabytes")
    return {"flags": np.array([ord(c) for c in os.environ.get("XLA_FLAGS", "")]), "pid": np.array(os.getpid())}
"""


@pytest.fixture
def small(tmp_path: Path) -> Subject:
    (tmp_path / "small.py").write_text(HARNESS)
    return find_subject(str(tmp_path / "small.py"))


@pytest.fixture
def process(small: Subject) -> Iterator[Elsewhere]:
    with elsewhere(small, devices=3, timeout=2) as other:
        yield other


def test_it_runs_in_another_process_with_the_requested_devices(small: Subject, process: Elsewhere) -> None:
    answer = process.restore("x", None)
    assert answer["pid"] == process.pid != small.restore("x", None)["pid"]
    assert "--xla_force_host_platform_device_count=3" in "".join(map(chr, answer["flags"]))
    assert (process.name, process.traits, process.operations) == ("small", ("lora",), frozenset({"restore"}))


def test_its_errors_have_type_and_text(process: Elsewhere) -> None:
    with pytest.raises(SubjectError, match="KeyError: 'no such leaf'"):
        process.restore("raise", None)
    assert process.restore("x", None)["pid"] == process.pid


def test_an_absent_operation_is_unsupported(process: Elsewhere) -> None:
    with pytest.raises(Unsupported):
        process.fold({}, {})


def test_too_little_memory_is_an_error_of_its_own(process: Elsewhere) -> None:
    with pytest.raises(OutOfMemoryError, match="MemoryError: 9 exabytes") as failed:
        process.restore("grow", None)
    assert failed.value.kind == "MemoryError"
    assert process.restore("x", None)["pid"] == process.pid


def test_a_name_that_is_no_operation_is_no_attribute(process: Elsewhere) -> None:
    with pytest.raises(AttributeError):
        process.frobnicate  # noqa: B018


@pytest.mark.parametrize("way", ["die", "hang"])
def test_a_process_that_does_not_answer_is_an_error_here(process: Elsewhere, way: str) -> None:
    with pytest.raises(ProcessDiedError):
        process.restore(way, None)


def test_a_killed_process_is_an_error(process: Elsewhere) -> None:
    process.start("restore", "hang", None)
    process.kill()
    with pytest.raises(ProcessKilledError, match="killed"):
        process.result()


def test_started_calls_answer_in_order(process: Elsewhere) -> None:
    process.start("restore", "x", None)
    process.start("peak_memory")
    assert process.result()["pid"] == process.pid
    assert process.result() > 1_000_000


def test_an_unknown_subject_cannot_run_elsewhere() -> None:
    harness = type("Harness", (), {"NAME": "local", "TRAITS": ()})
    with pytest.raises(ValueError, match="local"), elsewhere(Subject(harness)):
        pass


def test_the_reference_restores_the_same_elsewhere() -> None:
    reference, path = find_subject("reference"), str(Path("fixtures/golden/pi0_base/params").absolute())
    with elsewhere(reference) as other:
        assert_same_bits(other.restore(path, None), reference.restore(path, None))
