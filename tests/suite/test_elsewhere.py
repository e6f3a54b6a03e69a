"""A subject in another process: the same answers, and an end of that process costs nothing here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.session.find import find_subject
from suite.subjects.process.elsewhere import Elsewhere, elsewhere
from suite.subjects.protocol import ProcessDiedError, ProcessKilledError, Subject, SubjectError, Unsupported
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
    return {"flags": np.array([ord(c) for c in os.environ.get("XLA_FLAGS", "")]), "pid": np.array(os.getpid())}
"""


@pytest.fixture
def small(tmp_path: Path) -> Subject:
    (tmp_path / "small.py").write_text(HARNESS)
    return find_subject(str(tmp_path / "small.py"))


@pytest.fixture
def there(small: Subject) -> Iterator[Elsewhere]:
    with elsewhere(small, devices=3, timeout=2) as other:
        yield other


def test_it_runs_in_another_process_with_the_devices_asked_for(small: Subject, there: Elsewhere) -> None:
    answer = there.restore("x", None)
    assert answer["pid"] == there.pid != small.restore("x", None)["pid"]
    assert "--xla_force_host_platform_device_count=3" in "".join(map(chr, answer["flags"]))
    assert (there.name, there.traits, there.operations) == ("small", ("lora",), frozenset({"restore"}))


def test_its_errors_come_with_type_and_text(there: Elsewhere) -> None:
    with pytest.raises(SubjectError, match="KeyError: 'no such leaf'"):
        there.restore("raise", None)
    assert there.restore("x", None)["pid"] == there.pid


def test_an_absent_operation_is_unsupported(there: Elsewhere) -> None:
    with pytest.raises(Unsupported):
        there.fold({}, {})


def test_a_name_that_is_no_operation_is_no_attribute(there: Elsewhere) -> None:
    with pytest.raises(AttributeError):
        there.frobnicate  # noqa: B018


@pytest.mark.parametrize("way", ["die", "hang"])
def test_a_process_that_does_not_answer_is_an_error_here(there: Elsewhere, way: str) -> None:
    with pytest.raises(ProcessDiedError):
        there.restore(way, None)


def test_killed_in_the_middle(there: Elsewhere) -> None:
    there.start("restore", "hang", None)
    there.kill()
    with pytest.raises(ProcessKilledError, match="killed"):
        there.result()


def test_calls_that_were_started_answer_in_order(there: Elsewhere) -> None:
    there.start("restore", "x", None)
    there.start("peak_memory")
    assert there.result()["pid"] == there.pid
    assert there.result() > 1_000_000


def test_a_subject_without_a_name_cannot_be_found_there() -> None:
    harness = type("Harness", (), {"NAME": "local", "TRAITS": ()})
    with pytest.raises(ValueError, match="local"), elsewhere(Subject(harness)):
        pass


def test_the_reference_restores_the_same_there() -> None:
    reference, path = find_subject("reference"), str(Path("fixtures/golden/pi0_base/params").absolute())
    with elsewhere(reference) as other:
        assert_same_bits(other.restore(path, None), reference.restore(path, None))
