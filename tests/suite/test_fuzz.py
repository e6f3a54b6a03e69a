"""The fuzzer: the same case is the same damage, and it detects a subject that accepts damage."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fixtures.damage.corruption import WRITERS
from fixtures.damage.random_damage import damage_arrays, damage_files
from suite.mutation.fuzz import Case, Damage, Fuzzer, _silent, _unclear
from suite.session.find import find_subject
from suite.subjects.protocol import ProcessDiedError, SubjectError

ARRAYS = {"net/w": np.ones((2, 3), np.float32), "net/b": np.ones(3, np.float32)}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzer]:
    """Return a fuzzer of the reference, with one process for all tests."""
    fuzzer = Fuzzer(find_subject("reference"), tmp_path_factory.mktemp("fuzz"))
    yield fuzzer
    fuzzer.close()


@pytest.fixture
def fuzzer(tmp_path: Path) -> Fuzzer:
    """Return a fuzzer without a process."""
    return Fuzzer(find_subject("reference"), tmp_path)


class Stub:
    """A process whose loads return or raise `answer`."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def load(self, *_: object) -> object:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def peak_memory(self) -> int:
        return 3 << 30 if self._answer == "large" else 0


def test_a_seed_gives_one_damage(tmp_path: Path) -> None:
    """The same seed damages the same file in the same way; most seeds change something."""
    results = []
    for _ in range(2):
        words = []
        for seed in range(40):
            path = tmp_path / "file"
            path.write_bytes(b'{"shape": [3, 4], "name": "kernel"}' * 9)
            words.append((damage_files(random.Random(seed), path), path.read_bytes() if path.exists() else None))
        results.append(words)
    assert results[0] == results[1]
    assert len({data for _, data in results[0]}) > 30


def test_arrays_are_damaged_and_left_alone() -> None:
    """An edit returns other arrays and changes none of its input."""
    before = {name: array.copy() for name, array in ARRAYS.items()}
    edits = [damage_arrays(random.Random(seed), ARRAYS) for seed in range(60)]
    assert all(np.array_equal(ARRAYS[name], before[name]) for name in before)
    assert {edit.words.split()[1] for edit in edits} == {"dropped", "renamed", "reshaped", "cast"}
    assert any(edit.senseless for edit in edits)


def test_every_layout_is_fuzzed(fuzzer: Fuzzer) -> None:
    """All layouts are fuzzed, since the reference reads every one."""
    assert fuzzer.layouts() == list(WRITERS)


@pytest.mark.parametrize("layout", WRITERS)
def test_the_reference_handles_a_damaged_checkpoint(running: Fuzzer, layout: str) -> None:
    """One case of each layout is rejected or loaded, and its files are removed afterwards."""
    assert running.run(Case(layout, 2)) is None  # type: ignore[arg-type]
    assert not (running.folder / f"{layout}_2").exists()


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (SubjectError("KeyError", "'w'"), "refused without naming the path"),
        (SubjectError("MemoryError", "cannot take 2 TB for PATH"), "memory"),
        (ProcessDiedError("the process ended without an answer"), "crash or hang"),
        ("large", "memory"),
        ({"params": {"w": np.zeros(2)}, "report": {"w": "loaded"}}, "silently different: w"),
        ({"params": {"w": np.ones(2)}, "report": {"w": "initialized"}}, "accepted, and fresh: ['w']"),
    ],
    ids=["unclear", "no_memory", "died", "grown", "silent", "fresh"],
)
def test_every_wrong_answer_is_detected(fuzzer: Fuzzer, answer: object, wrong: str) -> None:
    """A rejection without the path, too much memory, a crash, another value or a fresh parameter is a failure."""
    fuzzer._process = Stub(answer)  # type: ignore[assignment]
    damage = Damage("one bit", {"w": np.ones(2)}, noticeable=True)
    assert (fuzzer._failure("openpi", Path("PATH"), damage) or "").startswith(wrong)


def test_a_right_answer_is_no_failure() -> None:
    """A rejection that names the path, equal values, and a fresh adapter that may be missing are right."""
    assert _unclear("CheckpointError: PATH: is damaged", Path("PATH")) is None
    right = {"params": {"w": np.ones(2)}, "report": {"w": "loaded"}}
    assert _silent(right, Damage("nothing", {"w": np.ones(2)}, noticeable=True)) is None
    fresh = {"params": {"q/lora_a": np.ones(2)}, "report": {"q/lora_a": "initialized"}}
    assert _silent(fresh, Damage("dropped", {"q/lora_a": np.zeros(2)})) is None
    other = {"params": {"w": np.zeros(2)}, "report": {"w": "loaded"}}
    assert _silent(other, Damage("a bit of a file without checksums", {"w": np.ones(2)})) is None


def test_accepting_senseless_arrays_is_a_failure(fuzzer: Fuzzer) -> None:
    """Accepting arrays that no loader can make sense of is a failure."""
    fuzzer._process = Stub({"params": {}, "report": {}})  # type: ignore[assignment]
    assert fuzzer._failure("hugging_face", Path("PATH"), Damage("cast to int8", {}, senseless=True)) == "accepted"
