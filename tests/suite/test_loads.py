"""Loads that laws share, by a toy subject that counts them; and what the laws say about their outcome."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.layouts import LAYOUTS
from fixtures.params import Params
from fixtures.specs import tiny
from suite.subjects.protocol import Subject
from suite.writing.layouts import Case
from suite.writing.loads import Loads
from suite.writing.refusals import assert_names, assert_rejected


class Toy:
    """A harness whose loads do what the test says, and are counted."""

    NAME, TRAITS = "toy", ()

    def __init__(self, load: Callable[[Path], None] = lambda _: None) -> None:
        self.asked: list[tuple[str, int]] = []
        self._load = load

    def load(self, model: dict[str, Any], source: dict[str, Any], seed: int) -> dict[str, Any]:
        self.asked.append(("load", seed))
        self._load(Path(source["path"]))
        model["seen"] = True
        return {"params": {"w": np.full(2, seed, np.float32)}}

    def load_for_inference(self, model: dict[str, Any], path: str) -> Params:
        self.asked.append(("load_for_inference", 0))
        return {"w": np.zeros(2, np.float32)}


def case(name: str = "plain") -> Case:
    """Return a case of the layout that is fastest to write."""
    return Case(id=name, layout=LAYOUTS["paligemma_npz"], model=tiny())


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def loads(toy: Toy, tmp_path: Path) -> Loads:
    return Loads(Subject(toy), tmp_path)


def refuse(_: Path) -> None:
    raise ValueError("no w in pt_224.npz")


def test_a_load_is_done_once_for_each_question(loads: Loads, toy: Toy) -> None:
    """Another seed, serving and a second load are other questions."""
    plain = case()
    for _ in range(2):
        loads(plain)
        loads(plain, seed=1)
        loads.again(plain)
        loads.serve(plain)
    assert toy.asked == [("load", 0), ("load", 1), ("load", 0), ("load_for_inference", 0)]


def test_the_second_load_is_another_one(loads: Loads) -> None:
    plain = case()
    assert loads(plain).params is not loads.again(plain).params


def test_an_error_is_an_answer(tmp_path: Path) -> None:
    """A refusal is judged by several laws too."""
    toy, plain = Toy(refuse), case()
    loads = Loads(Subject(toy), tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match="no w"):
            loads(plain).loaded()
    assert toy.asked == [("load", 0)]


def test_what_is_forgotten_is_asked_again(loads: Loads, toy: Toy) -> None:
    plain = case()
    loads(plain)
    loads.forget()
    loads(plain)
    assert toy.asked == [("load", 0)] * 2


def test_two_cases_of_one_name_are_an_error(loads: Loads) -> None:
    """They would share an answer."""
    loads(case())
    with pytest.raises(ValueError, match="paligemma_npz-plain"):
        loads(case())


def test_the_cases_own_model_is_not_changed(loads: Loads) -> None:
    """A load that changes its argument is seen, and does not spoil the next case."""
    plain = case()
    outcome = loads(plain)
    assert "seen" in outcome.model
    assert plain.model == tiny()


def test_changed_files_are_listed_and_written_anew(tmp_path: Path) -> None:
    plain = case()
    loads = Loads(Subject(Toy(Path.unlink)), tmp_path)
    assert [loads(plain, seed=seed).changed for seed in (0, 1)] == [("pt_224.npz",)] * 2


def test_only_the_files_of_the_last_cases_are_kept(loads: Loads, tmp_path: Path) -> None:
    for name in "abcdef":
        loads(case(name))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"paligemma_npz-{name}" for name in "cdef"]


def test_an_accepted_load_is_rejected_by_one_law_alone(loads: Loads) -> None:
    """One cause is one failure: the law about the wording has no error to judge, and does not pass either."""
    outcome = loads(case())
    with pytest.raises(AssertionError, match="accepted"):
        assert_rejected(outcome)
    with pytest.raises(pytest.skip.Exception, match="no error to judge"):
        assert_names(outcome, "pt_224.npz")


def test_a_refusal_is_judged_by_its_words(tmp_path: Path) -> None:
    outcome = Loads(Subject(Toy(refuse)), tmp_path)(case())
    assert_rejected(outcome)
    assert_names(outcome, "pt_224.npz")
    with pytest.raises(AssertionError, match="without naming"):
        assert_names(outcome, "another.npz")
