"""The other side of ``rpc``: makes an object from a harness and answers calls of its methods.

It runs in any interpreter (Python 3.10 or newer, numpy 1.26 or newer), with nothing of this project but its siblings.
"""

import contextlib
import faulthandler
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from .wire import decode, encode


def serve(channel: Any, server: str, harness: tuple[str, str | None]) -> None:
    """Answer each (method, args, kwargs) until the channel closes.

    An answer is ("result", value), ("absent", method) if the object has no such method, or ("error" or "out_of_memory",
    (type, text)). The first answer says whether the object could be made; if not, it is the last one.

    Args:
      channel: an execnet channel.
      server: ``module:class`` of the object; the class is called with the harness.
      harness: a module, and the name to ask its ``find_harness`` for; None if the module is the harness.
    """
    faulthandler.enable()
    _offer_to_end()
    try:
        served = _make(server, *harness)
    except BaseException as error:  # noqa: BLE001 - a harness is foreign code
        channel.send(_refusal(error))
        return
    channel.send(("result", None))
    for method, args, kwargs in channel:
        channel.send(_answer(served, method, decode(args), decode(kwargs)))


def _make(server: str, module: str, name: str | None) -> Any:
    # The harness first: it may have to set variables before jax is imported.
    harness: Any = import_module(module)
    if name is not None:
        harness = harness.find_harness(name)
    place, _, attribute = server.partition(":")
    return getattr(import_module(place), attribute)(harness)


def _answer(served: Any, method: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[str, Any]:
    try:
        function = getattr(served, method, None)
        return ("absent", method) if function is None else ("result", encode(function(*args, **kwargs)))
    except BaseException as error:  # noqa: BLE001 - the other side decides what an error means
        return _refusal(error)


def _refusal(error: BaseException) -> tuple[str, tuple[str, str]]:
    places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    # Where it was raised, often deep in an implementation, and the last line of a harness before that.
    called = [place for place in places[:-1] if ".harnesses." in place]
    where = f"at {places[-1]}, called at {called[-1]}" if called else f"at {places[-1]}"
    kind = "out_of_memory" if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) else "error"
    return kind, (type(error).__name__, f"{error} ({where})")


def _offer_to_end() -> None:
    """Have a system that runs short of memory end this process and no other, if it allows that choice."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
