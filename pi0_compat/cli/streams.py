"""Standard streams that are closed, and signals: how a command ends without a traceback."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

# The exit status of a process that a signal ended is this plus the signal's number.
ENDED_BY_SIGNAL = 128
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2


def open_closed_streams() -> None:
    """Open the null device for each standard stream that the caller closed, as ``>&-`` does.

    A file that is opened later would get the stream's number, and what is printed would be written into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def drop_stdout() -> None:
    """Send what is still to be printed nowhere: its reader is gone, and flushing at exit would fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def ended_at_once() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the process at once, while there is nothing to clean up.

    An exception would surface in the middle of an import, where some libraries turn it into another one.
    """
    with _handling(signal.SIG_DFL):
        yield


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM unwind the stack, so that a half-written checkpoint is removed."""
    with _handling(_unwind):
        yield


@contextmanager
def _handling(handler: Any) -> Iterator[None]:
    # A signal that the caller ignores, as ``nohup`` and a shell's ``&`` do, stays ignored.
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, signal.SIG_DFL if former is None else former)


def _unwind(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(ENDED_BY_SIGNAL + number)
