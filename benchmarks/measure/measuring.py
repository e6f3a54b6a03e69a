"""One call, measured: wall and CPU time, bytes read, peak memory of the host and of the device.

It runs in the process of a subject, in whatever interpreter that has: the standard library, numpy and jax are there.
"""

import ctypes
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks.measure.stages import Stages
from suite.subjects.process import memory

_OWN_MEMORY_FROM = 1 << 16
# Of glibc's mallopt: from which size on a block's memory is its own, and how much of the rest may stay free.
_M_MMAP_THRESHOLD, _LARGEST, _M_TRIM_THRESHOLD, _KEPT = -3, 32 << 20, -1, 1 << 30
_BLOCK = 8 << 20


def measured(call: Callable[[], Any], stages: Stages | None = None) -> tuple[Any, dict[str, Any]]:
    """What a call returns once its arrays are there, and its sample.

    The sample: ``wall_s`` and ``cpu_s`` (all threads) in seconds; ``read_bytes``, without what comes through a memory
    map; ``disk_bytes``, what came from a disk as the page cache did not have it, mapped or not; ``host_peak_bytes``, by
    how much the process grew at most; ``device_peak_bytes``, the most that the device's allocator ever held; ``stages``
    in seconds. None where this system does not tell.
    """
    before, read_before, disk_before = memory.start_anew(_OWN_MEMORY_FROM), bytes_read(), bytes_from_disk()
    if stages:
        stages.clear()
    gc.disable()
    start, cpu_start = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(call())
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    gc.enable()
    peak, read, disk = memory.peak(), bytes_read(), bytes_from_disk()
    return result, {
        "wall_s": wall,
        "cpu_s": cpu,
        "read_bytes": None if read is None or read_before is None else read - read_before,
        "disk_bytes": None if disk is None or disk_before is None else disk - disk_before,
        "host_peak_bytes": None if peak is None or before is None else peak - before,
        "device_peak_bytes": device_peak(),
        "stages": dict(stages.seconds) if stages else {},
    }


def device_peak() -> int | None:
    """The most bytes that the first device's allocator held since the process began; None on a CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use")


def keep_memory() -> None:
    """From now on, what is freed stays: calls that follow do not wait for the system to give memory, which varies."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def evict(path: str) -> None:
    """Take a file, or those below a folder, out of this system's page cache; that of a host below it may keep them."""
    for file in _files(path):
        with file.open("rb") as opened:
            os.fdatasync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_through(path: str) -> None:
    """Read a file, or those below a folder, so that the page cache has what it can hold of them."""
    block = bytearray(_BLOCK)
    for file in _files(path):
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(block):
                pass


def _files(path: str) -> list[Path]:
    found = Path(path)
    return [found] if found.is_file() else [file for file in sorted(found.rglob("*")) if file.is_file()]


def bytes_from_disk() -> int | None:
    """What this process had a disk read so far: what it asked for, mapped or not, and was not in the page cache."""
    return memory.number_in("io", "read_bytes:")


def bytes_read() -> int | None:
    """What this process has read so far, without what comes through a memory map."""
    return memory.number_in("io", "rchar:")
