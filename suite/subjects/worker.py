"""The other side of ``elsewhere``: serves one subject's operations over a channel until it closes."""

import ctypes
import gc
import traceback
from pathlib import Path
from typing import Any

from suite.subjects.find import find_subject
from suite.subjects.protocol import Subject, Unsupported
from suite.subjects.wire import decode, encode

# Of glibc's mallopt: arrays from this size on have memory of their own, which goes back to the system with them.
_M_MMAP_THRESHOLD = -3


def serve(channel: Any, name: str) -> None:
    """Answer each (operation, args, kwargs) with ("result", value), ("unsupported", text) or ("error", text)."""
    subject = find_subject(name)
    channel.send(("result", sorted(subject.capabilities)))
    for operation, args, kwargs in channel:
        channel.send(_answer(subject, operation, decode(args), decode(kwargs)))


def _answer(subject: Subject, operation: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[str, Any]:
    try:
        if operation == "peak_memory":
            return "result", _peak_memory()
        if operation == "memory_of":
            return "result", _memory_of(subject, *args, **kwargs)
        return "result", encode(getattr(subject, operation)(*args, **kwargs))
    except Unsupported as error:
        return "unsupported", str(error)
    except BaseException as error:  # noqa: BLE001 - the other side decides what an error means
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "error", f"{type(error).__name__}: {error} (at {last.filename}:{last.lineno})"


def _memory_of(subject: Subject, operation: str, *args: Any, **kwargs: Any) -> int:
    """By how many bytes the process grows, at most, while an operation runs; what it returns is dropped, not sent."""
    # What is free goes back to the system, now and later: growing into it would not show, and holes would count.
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
    libc.malloc_trim(0)
    # Sets VmHWM back to what is used now.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _peak_memory()
    getattr(subject, operation)(*args, **kwargs)
    return _peak_memory() - before


def _peak_memory() -> int:
    """VmHWM in bytes. Not ``ru_maxrss``: a child starts with its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kilobytes = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024
