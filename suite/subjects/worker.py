"""The other side of ``elsewhere``: serves one adapter's operations over a channel until it closes.

It runs in any interpreter (Python 3.10 or newer, numpy 1.26 or newer), with nothing of this project but its siblings.
"""

import ctypes
import faulthandler
import gc
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .wire import decode, encode

# Of glibc's mallopt: arrays from this size on have memory of their own, which goes back to the system with them.
_M_MMAP_THRESHOLD = -3


def serve(channel: Any, load_adapter: Callable[[], Any], operations: Iterable[str]) -> None:
    """Say what the adapter is, then answer each (operation, args, kwargs).

    Every answer is ("result", value), ("unsupported", text) or ("error", (type, text)). Of an adapter that cannot be
    imported the first answer is an error, and the last one.
    """
    faulthandler.enable()
    try:
        adapter = load_adapter()
        hello = encode(
            {
                "name": adapter.NAME,
                "traits": sorted(adapter.TRAITS),
                "operations": [name for name in operations if hasattr(adapter, name)],
            }
        )
    except BaseException as error:  # noqa: BLE001 - an adapter is foreign code
        channel.send(_refusal(error))
        return
    channel.send(("result", hello))
    for operation, args, kwargs in channel:
        channel.send(_answer(adapter, operation, decode(args), decode(kwargs)))


def _answer(adapter: Any, operation: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[str, Any]:
    try:
        if operation == "peak_memory":
            return "result", _peak_memory()
        if operation == "describe":
            return "result", encode(adapter.describe())
        if operation == "memory_of":
            return "result", _memory_of(adapter, *args, **kwargs)
        if not hasattr(adapter, operation):
            return "unsupported", f"{adapter.NAME} does not offer {operation}"
        return "result", encode(getattr(adapter, operation)(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - the other side decides what an error means
        return _refusal(error)


def _refusal(error: BaseException) -> tuple[str, tuple[str, str]]:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return "error", (type(error).__name__, f"{error} (at {last.filename}:{last.lineno})")


def _memory_of(adapter: Any, operation: str, *args: Any, **kwargs: Any) -> int:
    """By how many bytes the process grows, at most, while an operation runs; what it returns is dropped, not sent."""
    # What is free goes back to the system, now and later: growing into it would not show, and holes would count.
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
    libc.malloc_trim(0)
    # Sets VmHWM back to what is used now.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _peak_memory()
    getattr(adapter, operation)(*args, **kwargs)
    return _peak_memory() - before


def _peak_memory() -> int:
    """VmHWM in bytes. Not ``ru_maxrss``: a child starts with its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kilobytes = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024
