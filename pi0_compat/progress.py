"""How far long work is, for whoever wants to show it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

# Begins something of so many bytes; the context gives what is told how many more are done.
Progress: TypeAlias = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def no_progress(title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Tells nobody."""
    return nullcontext(lambda done: None)
