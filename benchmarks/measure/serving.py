"""Answers of a worker over a channel: what every process that measures does besides measuring."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def answer(channel: Any, make: Callable[[], Any]) -> None:
    """Describe a worker, then answer each (method, arguments) with what the method of the worker gives.

    Every answer is ("result", value) or ("error" or "out_of_memory", text). Of a worker that cannot be made the first
    answer is an error, and the last one.
    """
    _offer_to_end()
    try:
        worker = make()
        channel.send(("result", worker.describe()))
    except Exception as error:  # noqa: BLE001 - a subject is foreign code
        channel.send(("error", _text(error)))
        return
    for method, arguments in channel:
        try:
            channel.send(("result", getattr(worker, method)(*arguments)))
        except Exception as error:  # noqa: BLE001 - the other side decides what an error means
            channel.send(("out_of_memory" if _is_out_of_memory(error) else "error", _text(error)))


def _offer_to_end() -> None:
    """If the system runs short of memory, let it end this process and nobody else's."""
    wish = Path("/proc/self/oom_score_adj")
    if wish.exists():
        wish.write_text("1000", encoding="ascii")


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _text(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (at {last.filename.rpartition('/')[2]}:{last.lineno})"
