"""The other side of ``elsewhere``: serves one adapter's operations over a channel until it closes.

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
            return "result", peak()
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
    before = start_anew(_OWN_MEMORY_FROM)
    getattr(adapter, operation)(*args, **kwargs)
    after = peak()
    if before is None or after is None:
        raise OSError("this system does not tell how much memory a process had")
    return after - before
