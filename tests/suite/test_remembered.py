"""Answers that laws share: asked once, until they are forgotten."""

import functools
import itertools

import pytest

from suite.writing.remembered import Remembered, forget_all


def test_an_answer_is_asked_for_once() -> None:
    remembered, count = Remembered(), itertools.count()
    assert [remembered("a", lambda: next(count)), remembered("a", lambda: next(count))] == [0, 0]
    assert remembered("b", lambda: next(count)) == 1


def test_an_error_is_asked_for_again() -> None:
    """A failed attempt is no answer."""
    remembered = Remembered()
    with pytest.raises(ZeroDivisionError):
        remembered("a", lambda: 1 // 0)
    assert remembered("a", lambda: 2) == 2


def test_only_the_latest_answers_are_kept() -> None:
    """An answer may be a whole model, so the one that was used longest ago goes first."""
    remembered = Remembered()
    asked: list[int] = []
    for name in (0, *range(1, 12), 0, 12, 0, 1):
        remembered(name, functools.partial(asked.append, name))
    assert asked == [*range(13), 1]


def test_all_are_forgotten_at_once() -> None:
    """Which functions a law enters is seen only if it asks by itself."""
    memories, count = [Remembered(), Remembered()], itertools.count()
    for _ in range(2):
        for memory in memories:
            memory("a", lambda: next(count))
        forget_all()
    assert next(count) == 4
