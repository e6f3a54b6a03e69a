"""The progress callback of long work."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

# Starts a task of ``total`` bytes; yields a callback that takes the bytes done since the last call.
Progress: TypeAlias = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def no_progress(title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show nothing."""
    return nullcontext(lambda done: None)
