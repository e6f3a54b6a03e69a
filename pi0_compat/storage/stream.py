"""Parameters as streams of slabs: parts along the first axis, in order, so that no array has to be in memory whole.

A stacked array of a real pi0 has up to 5 GB, one layer of it 268 MB. Every layout is read as a ``Source``; a transform
(cast, choose, join, fold) is a ``Source`` that reads another one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from pi0_compat.params import Leaf

# Bytes to read, hold or write at a time; a single row of an array may have more.
BLOCK_BYTES = 64 << 20
# Values to compute on at a time, so that they stay in the processor's cache.
CACHED_VALUES = 1 << 18


class Source(Protocol):
    """Parameters that can be read one at a time, or a slab at a time. Subclass it for the default ``read``.

    Attributes:
      path: the file or folder, for messages.
      leaves: path of every parameter -> its shape and dtype.
    """

    path: Path
    leaves: dict[str, Leaf]

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a parameter in parts along its first axis, first to last, in the dtype of ``leaves``.

        A scalar is one slab, of shape [].
        """

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """Return a parameter whole.

        Args:
          path: one of ``leaves``.
          dtype: what to cast to, as numpy casts; None keeps the dtype of ``leaves``.
        """
        array = whole(self.slabs(path))
        return array if dtype is None else array.astype(dtype, copy=False)


class Counted(Source):
    """Pass parameters through unchanged, and report the bytes read to ``advance``."""

    def __init__(self, source: Source, advance: Callable[[int], None]) -> None:
        self.path, self.leaves, self._source, self._advance = source.path, source.leaves, source, advance

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield the slabs unchanged."""
        for slab in self._source.slabs(path):
            yield slab
            self._advance(slab.nbytes)


def rows_at_a_time(leaf: Leaf) -> Iterator[slice]:
    """Yield the slices of the first axis that an array is read in: ``BLOCK_BYTES`` each at most, but at least a row."""
    length = leaf.shape[0]
    step = max(1, BLOCK_BYTES * length // leaf.num_bytes) if leaf.num_bytes else max(1, length)
    return (slice(first, min(first + step, length)) for first in range(0, length, step))


def cut(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the slabs of an array in memory, as views."""
    if not array.ndim:
        yield array
        return
    yield from (array[rows] for rows in rows_at_a_time(Leaf(array.shape, array.dtype)))


def whole(slabs: Iterable[np.ndarray]) -> np.ndarray:
    """Return the array that the slabs make up. It is in memory twice for a moment."""
    parts = list(slabs)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def read_ahead(slabs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the slabs unchanged; a thread prepares each one while the one before it is used."""
    rest = iter(slabs)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, rest, None)
        while (slab := coming.result()) is not None:
            coming = thread.submit(next, rest, None)
            yield slab


def slabs_ahead(source: Source, path: str) -> Iterator[np.ndarray]:
    """Return the slabs of a parameter, read ahead if there is more than one."""
    slabs = source.slabs(path)
    return slabs if source.leaves[path].num_bytes <= BLOCK_BYTES else read_ahead(slabs)


def regrouped(slabs: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """Re-chunk slabs into blocks of ``rows`` rows; the last block may be shorter."""
    waiting: list[np.ndarray] = []
    for slab in slabs:
        rest = slab
        while len(rest):
            missing = rows - sum(map(len, waiting))
            waiting.append(rest[:missing])
            rest = rest[missing:]
            if len(waiting[-1]) == missing:
                yield whole(waiting)
                waiting = []
    if waiting:
        yield whole(waiting)


def windows(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield groups of consecutive paths of up to ``BLOCK_BYTES`` in all; a larger path is a group of its own.

    Args:
      sizes: path -> bytes.
    """
    group: list[str] = []
    for path in sizes:
        if group and sum(sizes[member] for member in group) + sizes[path] > BLOCK_BYTES:
            yield group
            group = []
        group.append(path)
    if group:
        yield group
