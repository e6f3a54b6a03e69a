"""Measure this machine's ceilings: the throughput of matrix products, copies and file reads.

A datasheet states what a device could do; a ceiling is what it does here and now with the same jax. ``python -m
benchmarks.machine.ceilings --folder DIR --json`` prints ``{"ceilings": ..., "accelerators": ...}`` for a result file.
It runs in its own process, because it claims the device, and takes about ten seconds.

Each figure is the best of several samples, because other load can only make it worse. 1 TFLOP/s is 10^12 operations
per second, 1 GB/s is 10^9 bytes per second.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import machine, work
from benchmarks.machine.parallel import best_in_parallel, in_parallel, thread_counts

# Stop growing the matrices once a sample takes longer than this; it limits the product's size on a CPU.
_LONG_ENOUGH_S = 0.1
_LARGEST_SIDE, _SMALLEST_SIDE = 8192, 1024
_MIB = 2**20
_BLOCK = 8 * _MIB


def measure(folder: Path, *, megabytes: int = 256) -> dict[str, Any]:
    """Measure the ``ceilings`` of a result file: the first device, host memory, and the disk that holds ``folder``.

    A value is None if it cannot be measured here; the reason is printed to standard error.

    Args:
      folder: where to write a temporary file; on the disk of the fixtures.
      megabytes: MiB to copy on the host and to read; a device with its own memory copies more.
    """
    device = jax.local_devices()[0]
    own_memory = device.platform != "cpu"
    warm, cold = _or_none(_reads, folder, megabytes * _MIB) or (None, None)
    return {
        "matmul_tflops": {name: _or_none(matmul, name) for name in ("bfloat16", "float32")},
        "device_copy_gbs": _or_none(device_copy, (8 if own_memory else 1) * megabytes * _MIB),
        "host_to_device_gbs": _or_none(host_to_device, megabytes * _MIB) if own_memory else None,
        "memcpy_gbs": _or_none(memcpy, megabytes * _MIB),
        "read_warm_gbs": warm,
        "read_cold_gbs": cold,
        **(_or_none(work.rates, folder, megabytes * _MIB // 4) or {}),
    }


def matmul(dtype: str) -> float:
    """Return the TFLOP/s of a square product of random numbers; zeros would be faster.

    float32 runs at jax's default precision, which is lower than float32 on many accelerators (TF32, bfloat16).
    """
    best, side = 0.0, _SMALLEST_SIDE if jax.default_backend() == "cpu" else _LARGEST_SIDE
    while True:
        keys = jax.random.split(jax.random.key(0))
        left, right = (jax.random.normal(key, (side, side), jnp.dtype(dtype)) for key in keys)
        seconds = _best_of(_queued(jax.jit(jnp.matmul), left, right))
        best = max(best, 2e-12 * side**3 / seconds)
        if side == _LARGEST_SIDE or seconds > _LONG_ENOUGH_S:
            return best
        side *= 2


def device_copy(size: int) -> float:
    """Return the GB/s of device memory, bytes read plus written; updates are in place, so nothing is allocated."""
    step = jax.jit(lambda numbers: numbers + 1, donate_argnums=0)
    numbers = step(jnp.zeros(size // 4, jnp.int32))
    times = _repeats()

    def run() -> None:
        nonlocal numbers
        for _ in range(times):
            numbers = step(numbers)
        jax.block_until_ready(numbers)

    return 2e-9 * size * times / _best_of((run, 1))


def host_to_device(size: int) -> float:
    """Return the GB/s from host to device, the better of pageable and pinned memory."""
    host = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    device = jax.local_devices()[0]
    seconds = _best_of(_queued(lambda: jax.device_put(host, device), times=1))
    if any(memory.kind == "pinned_host" for memory in device.addressable_memories()):
        seconds = min(seconds, _or_none(_pinned_seconds, host, device) or seconds)
    return 1e-9 * size / seconds


def memcpy(size: int) -> float:
    """Return the GB/s copied within host memory (each byte counted once), the better of one thread and all cores."""
    source = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    # Touch the pages first: the first write to memory costs many times the copy.
    target = source.copy()

    def copy(start: int, end: int) -> None:
        np.copyto(target[start:end], source[start:end])

    return 1e-9 * size / min(best_in_parallel(copy, size, threads) for threads in thread_counts())


def _pinned_seconds(host: np.ndarray[Any, Any], device: Any) -> float:
    pinned = jax.device_put(host, jax.sharding.SingleDeviceSharding(device, memory_kind="pinned_host"))
    sharding = jax.sharding.SingleDeviceSharding(device, memory_kind="device")
    return _best_of(_queued(lambda: jax.device_put(pinned, sharding), times=1))


def _reads(folder: Path, size: int) -> tuple[float, float | None]:
    """Return the GB/s of reading a file from the page cache, and from the disk."""
    with tempfile.TemporaryFile(dir=folder) as file:
        block = os.urandom(_BLOCK)
        for _ in range(0, size, _BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
        cold = _cold_seconds(file.fileno(), size)
        warm = min(best_in_parallel(_reader(file.fileno()), size, threads) for threads in thread_counts())
    return 1e-9 * size / warm, 1e-9 * size / cold if cold else None


def _cold_seconds(descriptor: int, size: int) -> float | None:
    """Return the seconds of the fastest read from the disk; None if the page cache could not be emptied of the file."""
    if not hasattr(os, "posix_fadvise") or _bytes_from_disk() is None:
        return None
    seconds_of_reads = []
    for threads in thread_counts() * 2:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        before = _bytes_from_disk() or 0
        seconds = in_parallel(_reader(descriptor), size, threads)
        if (_bytes_from_disk() or 0) - before > size // 2:
            seconds_of_reads.append(seconds)
    return min(seconds_of_reads, default=None)


def _bytes_from_disk() -> int | None:
    """Return the bytes this process has read from disks so far; None if the system does not report it."""
    file = Path("/proc/self/io")
    if not file.exists():
        return None
    lines = file.read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("read_bytes:")), None)


def _reader(descriptor: int) -> Callable[[int, int], None]:
    def read(start: int, end: int) -> None:
        buffer = memoryview(bytearray(_BLOCK))
        while start < end:
            got = os.preadv(descriptor, [buffer[: min(_BLOCK, end - start)]], start)
            if not got:
                raise OSError(f"the scratch file ended at byte {start}; expected {end}. Is the disk full?")
            start += got

    return read


def _repeats() -> int:
    """Return the calls per sample: an accelerator needs a queue, or the gaps between calls are measured too."""
    return 1 if jax.default_backend() == "cpu" else 10


def _queued(call: Callable[..., Any], *arguments: Any, times: int | None = None) -> tuple[Callable[[], Any], int]:
    """Return a function that makes several calls and waits for the last one, and the number of calls."""
    count = times or _repeats()

    def run() -> None:
        jax.block_until_ready([call(*arguments) for _ in range(count)][-1])

    return run, count


def _best_of(queued: tuple[Callable[[], Any], int]) -> float:
    """Return the seconds per call of the best sample, after a warm-up that compiles."""
    run, count = queued
    run()
    samples = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        samples.append((time.perf_counter() - start) / count)
    return min(samples)


def _or_none(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return the call's result; on an error print the reason to standard error and return None."""
    try:
        return call(*arguments)
    except (RuntimeError, ValueError, TypeError, OSError, MemoryError) as error:
        print(f"benchmarks.machine.ceilings: not measured: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the ceilings and the accelerators of this machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.machine.ceilings", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="folder on the disk to measure; a temporary file is written there"
    )
    parser.add_argument("--json", action="store_true", help="print JSON on one line")
    options = parser.parse_args(arguments)
    measured = {"ceilings": measure(options.folder), "accelerators": machine.accelerators()}
    print(json.dumps(measured, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
