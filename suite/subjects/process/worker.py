"""The other side of ``elsewhere``: serves one harness's operations over a channel until it closes.

It runs in any interpreter (Python 3.10 or newer, numpy 1.26 or newer), with nothing of this project but its siblings.
"""

import faulthandler
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from .memory import peak, start_anew
from .wire import decode, encode

# The smallest array that counts: it goes back to the system as soon as it is free.
_OWN_MEMORY_FROM = 1 << 20


def serve(channel: Any, load_harness: Callable[[], Any], operations: Iterable[str]) -> None:
    """Say what the harness is, then answer each (operation, args, kwargs).

    Every answer is ("result", value), ("unsupported", text) or ("error", (type, text)). Of a harness that cannot be
    imported the first answer is an error, and the last one.
    """
    faulthandler.enable()
    try:
        harness = load_harness()
        hello = encode(
            {
                "name": harness.NAME,
                "traits": sorted(harness.TRAITS),
                "operations": [name for name in operations if hasattr(harness, name)],
            }
        )
    except BaseException as error:  # noqa: BLE001 - a harness is foreign code
        channel.send(_refusal(error))
        return
    channel.send(("result", hello))
    for operation, args, kwargs in channel:
        channel.send(_answer(harness, operation, decode(args), decode(kwargs)))


def _answer(harness: Any, operation: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[str, Any]:
    try:
        if operation == "peak_memory":
            return "result", peak()
        if operation == "describe":
            return "result", encode(harness.describe())
        if operation == "memory_of":
            return "result", _memory_of(harness, *args, **kwargs)
        if not hasattr(harness, operation):
            return "unsupported", f"{harness.NAME} does not offer {operation}"
        return "result", encode(getattr(harness, operation)(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - the other side decides what an error means
        return _refusal(error)


def _refusal(error: BaseException) -> tuple[str, tuple[str, str]]:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return "error", (type(error).__name__, f"{error} (at {last.filename}:{last.lineno})")


def _memory_of(harness: Any, operation: str, *args: Any, **kwargs: Any) -> int:
    """By how many bytes the process grows, at most, while an operation runs; what it returns is dropped, not sent."""
    before = start_anew(_OWN_MEMORY_FROM)
    getattr(harness, operation)(*args, **kwargs)
    after = peak()
    if before is None or after is None:
        raise OSError("this system does not tell how much memory a process had")
    return after - before
