"""Run jobs on all cores, as many at once as a limit of memory allows.

What a load needs is known before it begins: a job starts when its memory fits, or when nothing else is running. The
caller's thread keeps all accounts; jobs are what is slow and releases Python's lock (decoding, hashing, casting).
"""

import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self

Then = Callable[[Any], None]


class Bounded:
    """Runs jobs within a limit of bytes. Use it as a context manager, which waits for all jobs at the end."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._flying: dict[Future[None], tuple[int, Then]] = {}
        self._threads = ThreadPoolExecutor(os.cpu_count())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self._flying:
                self._land()
        finally:
            self._threads.shutdown(cancel_futures=True)

    def make_room(self, held: int) -> None:
        """Wait until ``held`` bytes fit beside what is held, or nothing is running any more.

        Raises:
          Exception: whatever a job, or the function that takes its result, raised.
        """
        while self._flying and held > self._free:
            self._land()

    def hold(self, held: int) -> None:
        """Count bytes as held; a negative number releases them."""
        self._free -= held

    def do(self, held: int, job: Callable[[], Any], then: Then) -> None:
        """Run a job that holds ``held`` bytes while it runs; pass its result to ``then`` in the caller's thread."""
        self.hold(held)
        self._flying[self._threads.submit(job)] = (held, then)

    def _land(self) -> None:
        landed, _ = wait(self._flying, return_when=FIRST_COMPLETED)
        for future in landed:
            held, then = self._flying.pop(future)
            self.hold(-held)
            then(future.result())
