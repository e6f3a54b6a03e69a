"""Measure what it costs to work on a checkpoint's bytes: decode, encode, digest, cast and write them, on all cores.

A figure is GB/s of values (10^9 bytes, before encoding), the best of several samples. The values are distributed as the
fixtures' and as trained weights are, so that zstd finds in them what it finds there.
"""

import contextlib
import hashlib
import importlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.machine.parallel import best_in_parallel, thread_counts

zstandard: Any = None
with contextlib.suppress(ImportError):
    # Optional; without it nothing is known of decoding and encoding.
    zstandard = importlib.import_module("zstandard")

# The level that orbax encodes at, and the bytes that are encoded at a time: both sides stay in a core's cache.
_LEVEL, _PIECE = 1, 1 << 19
_SPREAD = 0.02
Work = Callable[[int, int], None]


def rates(folder: Path, size: int) -> dict[str, float | None]:
    """Return the GB/s of each kind of work on ``size`` bytes of float32 values, by its name in a result file.

    Args:
      folder: where to write a temporary file.
      size: bytes to work on, a multiple of the bytes that are encoded at a time.
    """
    values = np.random.default_rng(0).standard_normal(size // 4, np.float32) * np.float32(_SPREAD)
    works = {"digest_gbs": _digest(values), "cast_gbs": _cast(values)}
    if zstandard is not None:
        works |= {"decode_gbs": _decode(values), "encode_gbs": _encode(values)}
    best = {
        name: min(best_in_parallel(work, size, threads) for threads in thread_counts()) for name, work in works.items()
    }
    found = {name: 1e-9 * size / best[name] if name in best else None for name in ("decode_gbs", "encode_gbs", *works)}
    return found | {"write_gbs": 1e-9 * size / _write_seconds(folder, values)}


def _pieces(start: int, end: int) -> range:
    """Return the numbers of the pieces that begin in a part of the bytes."""
    return range(-(-start // _PIECE), -(-end // _PIECE))


def _encoder() -> Any:
    return zstandard.ZstdCompressor(level=_LEVEL)


def _encode(values: np.ndarray) -> Work:
    data = values.view(np.uint8).data

    def work(start: int, end: int) -> None:
        encoder = _encoder()
        for number in _pieces(start, end):
            encoder.compress(data[number * _PIECE : (number + 1) * _PIECE])

    return work


def _decode(values: np.ndarray) -> Work:
    data, encoder = values.view(np.uint8).data, _encoder()
    encoded = [encoder.compress(data[first : first + _PIECE]) for first in range(0, len(data), _PIECE)]

    def work(start: int, end: int) -> None:
        decoder = zstandard.ZstdDecompressor()
        for number in _pieces(start, end):
            decoder.decompress(encoded[number])

    return work


def _digest(values: np.ndarray) -> Work:
    data = values.view(np.uint8).data

    def work(start: int, end: int) -> None:
        hashed = hashlib.sha256(usedforsecurity=False)
        for first in range(start, end, _PIECE):
            hashed.update(data[first : min(first + _PIECE, end)])

    return work


def _cast(values: np.ndarray) -> Work:
    def work(start: int, end: int) -> None:
        target = np.empty(_PIECE // 4, ml_dtypes.bfloat16)
        for first in range(start // 4, end // 4, target.size):
            part = values[first : min(first + target.size, end // 4)]
            np.copyto(target[: part.size], part, casting="unsafe")

    return work


def _write_seconds(folder: Path, values: np.ndarray) -> float:
    """Return the seconds of writing values to the disk, until it has them."""
    seconds = []
    for _ in range(3):
        with tempfile.TemporaryFile(dir=folder) as file:
            start = time.perf_counter()
            file.write(values.view(np.uint8).data)
            file.flush()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - start)
    return min(seconds)
