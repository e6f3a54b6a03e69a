"""Work on several parameters at once, each in a thread of its own, until all are done or one has failed."""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Report = Callable[[int], None]
T = TypeVar("T")
# What one parameter takes (a block, an encoded chunk, the factors of an adapter) is held this many times at most.
_AT_ONCE = min(4, os.cpu_count() or 1)


class _Stopped(Exception):
    """The work has to end because that on another item has failed, or was interrupted."""


def for_each(
    items: Iterable[str], work: Callable[[str, Report], T], advance: Report = lambda done: None
) -> dict[str, T]:
    """Return the result of ``work`` for every item, in their order.

    Args:
      items: what to work on; those that take longest come first.
      work: is called in another thread, with an item and a function to call often with the bytes that are done; it
        raises when the work is to end early.
      advance: receives these bytes, from one thread at a time.

    Raises:
      Exception: the first that was raised; all other work has ended by then.
    """
    stop, lock = threading.Event(), threading.Lock()

    def report(done: int) -> None:
        if stop.is_set():
            raise _Stopped
        with lock:
            advance(done)

    futures: dict[str, Future[T]] = {}
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        try:
            # Inside: a signal may come while the first items are worked on and others are still handed out.
            for item in items:
                futures[item] = threads.submit(work, item, report)
            wait(futures.values(), return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
            for future in futures.values():
                future.cancel()
    failed = [error for future in futures.values() if not future.cancelled() and (error := future.exception())]
    if failed:
        raise next((error for error in failed if not isinstance(error, _Stopped)), failed[0])
    return {item: future.result() for item, future in futures.items()}
