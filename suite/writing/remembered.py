"""Answers of a subject that several laws judge: asked once, then remembered."""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

# An answer may hold all parameters of a model.
_MOST = 12


class Memory(Protocol):
    """What remembers answers of a subject."""

    def forget(self) -> None:
        """Forget all answers."""


_ALL: "weakref.WeakSet[Memory]" = weakref.WeakSet()


def register(memory: Memory) -> None:
    """Let ``forget_all`` reach a memory for as long as it is in use."""
    _ALL.add(memory)


class Remembered:
    """The latest answers of one subject, by what was asked; errors are not among them."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        register(self)

    def __call__(self, asked: Hashable, ask: Callable[[], T]) -> T:
        """Return the answer to ``asked``, from memory if possible; nobody may change it."""
        if asked not in self._answers:
            self._answers[asked] = ask()
            if len(self._answers) > _MOST:
                self._answers.popitem(last=False)
        self._answers.move_to_end(asked)
        answer: T = self._answers[asked]
        return answer

    def forget(self) -> None:
        """Forget all answers."""
        self._answers.clear()


def forget_all() -> None:
    """Forget the answers of every subject, so that whoever asks next is seen to ask."""
    for memory in _ALL:
        memory.forget()
