"""Measure one call: wall and CPU time, bytes read, peak memory of the host and of the device.

It runs in the process and the interpreter of a subject, and needs the standard library, numpy and jax.
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
# Parameters of glibc's mallopt: the size from which a block is mapped on its own, and how much of the rest stays free.
_M_MMAP_THRESHOLD, _LARGEST, _M_TRIM_THRESHOLD, _KEPT = -3, 32 << 20, -1, 1 << 30
_BLOCK = 8 << 20


def measured(call: Callable[[], Any], stages: Stages | None = None) -> tuple[Any, dict[str, Any]]:
    """Call a function and wait for its arrays.

    Returns:
      Its result, and the sample: ``wall_s`` and ``cpu_s`` (all threads) in seconds; ``read_bytes``, without reads
      through memory maps; ``disk_bytes``, what the page cache did not have, memory maps included; ``host_peak_bytes``,
      by how much the process grew at most; ``device_peak_bytes``, the most that the device's allocator ever held;
      ``stages`` in seconds. A value is None if the system does not report it.
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
    """Return the most bytes that the first device's allocator held since the process started; None on a CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use")


def keep_memory() -> None:
    """Keep freed memory from now on: waiting for the system to provide memory takes varying time."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def evict(path: str) -> None:
    """Evict a file, or all files below a folder, from this system's page cache; a host's cache may keep them."""
    for file in _files(path):
        with file.open("rb") as opened:
            os.fdatasync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_through(path: str) -> None:
    """Read a file, or all files below a folder, into the page cache, as far as it has room."""
    block = bytearray(_BLOCK)
    for file in _files(path):
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(block):
                pass


def _files(path: str) -> list[Path]:
    found = Path(path)
    return [found] if found.is_file() else [file for file in sorted(found.rglob("*")) if file.is_file()]


def bytes_from_disk() -> int | None:
    """Return the bytes that this process has read from a disk so far, memory maps included."""
    return memory.number_in("io", "read_bytes:")


def bytes_read() -> int | None:
    """Return the bytes that this process has read so far, without reads through memory maps."""
    return memory.number_in("io", "rchar:")
