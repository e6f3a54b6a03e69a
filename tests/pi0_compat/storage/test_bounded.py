"""Jobs within a limit of bytes: which run at once, who gets the results, and how errors are raised."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_compat.storage.bounded import Bounded


class Meter:
    """Jobs that record how many bytes they hold together, and the most at once."""

    def __init__(self) -> None:
        self._lock, self._held, self.most = threading.Lock(), 0, 0

    def run(self, held: int) -> int:
        with self._lock:
            self._held += held
            self.most = max(self.most, self._held)
        time.sleep(0.001)
        with self._lock:
            self._held -= held
        return held


@settings(max_examples=30)
@given(st.lists(st.integers(0, 12), max_size=12), st.integers(0, 20))
def test_jobs_hold_at_most_the_limit_or_one_of_them_runs_alone(sizes: list[int], limit: int) -> None:
    """Jobs run together within the limit; a larger one runs alone."""
    meter = Meter()
    handed_over: list[int] = []
    with Bounded(limit) as jobs:
        for size in sizes:
            jobs.make_room(size)
            jobs.do(size, lambda size=size: meter.run(size), handed_over.append)  # type: ignore[misc]
    assert sorted(handed_over) == sorted(sizes)
    assert meter.most <= max(limit, *sizes, 0)


def test_jobs_that_fit_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs wait for each other and both end, so both run at once; a machine with one core counts as two."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    both = threading.Barrier(2, timeout=30)
    with Bounded(2) as jobs:
        for _ in range(2):
            jobs.make_room(1)
            jobs.do(1, both.wait, lambda _: None)


def test_held_bytes_make_jobs_wait() -> None:
    """Bytes that are held beside the jobs count until they are released."""
    meter = Meter()
    with Bounded(3) as jobs:
        jobs.hold(2)
        for _ in range(4):
            jobs.make_room(1)
            jobs.do(1, lambda: meter.run(1), lambda _: None)
        assert meter.most == 1
        jobs.hold(-2)
        for _ in range(4):
            jobs.make_room(1)
            jobs.do(1, lambda: meter.run(1), lambda _: None)
    assert meter.most <= 3


def test_results_are_handed_over_in_the_thread_of_the_caller() -> None:
    """Jobs run in other threads, but consuming their results needs no lock."""
    ran_in, consumed_by = [], []
    with Bounded(1) as jobs:
        jobs.do(
            1,
            lambda: ran_in.append(threading.current_thread()),
            lambda _: consumed_by.append(threading.current_thread()),
        )
    assert consumed_by == [threading.current_thread()] != ran_in


@pytest.mark.parametrize("where", ["job", "taking"])
def test_an_error_is_raised_after_running_jobs_have_ended(where: str) -> None:
    """An error of a job or of consuming a result is raised to the caller after running jobs have ended."""
    began, ended = threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        time.sleep(0.05)
        ended.set()

    def fail(_: object = None) -> None:
        assert began.wait(30)
        raise RuntimeError(where)

    def run() -> None:
        with Bounded(2) as jobs:
            jobs.do(1, slow, lambda _: None)
            jobs.do(1, fail if where == "job" else lambda: None, fail if where == "taking" else lambda _: None)

    with pytest.raises(RuntimeError, match=where):
        run()
    assert ended.is_set()
