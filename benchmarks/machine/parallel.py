"""Time work on bytes that is split among threads."""

import concurrent.futures
import os
import time
from collections.abc import Callable


def thread_counts() -> list[int]:
    """Return the thread counts to try: 1, and the number of cores this process may use (at most 16)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return sorted({1, min(cores, 16)})


def best_in_parallel(work: Callable[[int, int], None], size: int, threads: int) -> float:
    """Return the seconds of the best of four samples of ``in_parallel``."""
    return min(in_parallel(work, size, threads) for _ in range(4))


def in_parallel(work: Callable[[int, int], None], size: int, threads: int) -> float:
    """Return the seconds of ``work`` on ``size`` bytes, split evenly among the threads."""
    bounds = [size * part // threads for part in range(threads + 1)]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        # Start the threads before the clock.
        list(pool.map(time.sleep, [0.01] * threads))
        start = time.perf_counter()
        list(pool.map(work, bounds[:-1], bounds[1:]))
        return time.perf_counter() - start
