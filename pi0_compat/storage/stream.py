"""Parameters as streams of slabs or blocks, in order, so that no array has to be in memory whole.

A stacked array of a real pi0 has up to 5 GB, one layer of it 268 MB. A slab is a part along the first axis; a block is
a megabyte in C order, which stays in a core's cache while it is decoded, changed, hashed and encoded. Every layout is
read as a ``Source``; a transform (cast, choose, join, fold) is a ``Source`` that reads another one.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from pi0_compat.params import Leaf

# Bytes to read, hold or write at a time; a single row of an array may have more.
BLOCK_BYTES = 64 << 20
# Values to compute on at a time, so that they stay in the processor's cache.
CACHED_VALUES = 1 << 18


class Origin(NamedTuple):
    """How a parameter is stored that a source passes on as it is.

    Attributes:
      array: the stored array, with the places of its encoded chunks.
      digest: the recorded digest, with which reading to the end compares the values; None if there is none.
    """

    array: Any
    digest: str | None


class Source(Protocol):
    """Parameters that can be read one at a time, a slab or a block at a time. Subclass it for the defaults.

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

    def blocks(self, path: str) -> Iterator[np.ndarray]:
        """Yield a parameter in the flat blocks of ``boxes``, in the dtype of ``leaves``.

        A block is valid until the next one is taken.
        """
        return in_blocks(self.leaves[path].shape, self.slabs(path))

    def origin(self, path: str) -> Origin | None:
        """Return how the values are stored, if they come unchanged from an orbax checkpoint."""
        return None

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
        return self._counted(self._source.slabs(path))

    def blocks(self, path: str) -> Iterator[np.ndarray]:
        """Yield the blocks unchanged."""
        return self._counted(self._source.blocks(path))

    def origin(self, path: str) -> Origin | None:
        """Return the origin in the source."""
        return self._source.origin(path)

    def _counted(self, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for part in parts:
            yield part
            self._advance(part.nbytes)


def rows_at_a_time(leaf: Leaf) -> Iterator[slice]:
    """Yield the slices of the first axis that an array is read in: ``BLOCK_BYTES`` each at most, but at least a row."""
    length = leaf.shape[0]
    step = max(1, BLOCK_BYTES * length // leaf.num_bytes) if leaf.num_bytes else max(1, length)
    return (slice(first, min(first + step, length)) for first in range(0, length, step))


def boxes(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], slice]]:
    """Yield the boxes that make up an array in C order, each a run of its values.

    A box is an index of the first axes, and a slice of the next one; later axes are whole. It has ``CACHED_VALUES``
    values at most, but at least a row of a matrix. A scalar is one box of its own, with an empty index.
    """
    if not shape:
        yield (), slice(0, 1)
        return
    axis = block_axis(shape)
    row = math.prod(shape[axis + 1 :])
    step = max(1, CACHED_VALUES // max(1, row))
    for lead in np.ndindex(shape[:axis]):
        for first in range(0, shape[axis] if row else 0, step):
            yield lead, slice(first, min(first + step, shape[axis]))


def block_axis(shape: tuple[int, ...]) -> int:
    """Return the axis that ``boxes`` cuts: the first one below which a row is small enough; never the last of two."""
    last = max(0, len(shape) - 2)
    return next((axis for axis in range(last) if math.prod(shape[axis + 1 :]) <= CACHED_VALUES), last)


def in_blocks(shape: tuple[int, ...], slabs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the flat blocks of an array that comes in slabs."""
    if not shape:
        yield from (slab.reshape(1) for slab in slabs)
        return
    axis, row = block_axis(shape), math.prod(shape[block_axis(shape) + 1 :])
    step = max(1, CACHED_VALUES // max(1, row))
    for slab in slabs if axis else regrouped(slabs, step):
        # A slab has whole rows of the first axis, and no box crosses one of those unless it is the axis that is cut.
        for rows in slab.reshape(-1, *shape[axis:]) if axis else [slab]:
            yield from (rows[first : first + step].reshape(-1) for first in range(0, len(rows), step) if rows.size)


def in_slabs(leaf: Leaf, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the slabs of an array that comes in flat blocks."""
    coming, rest = iter(blocks), np.empty(0, leaf.dtype)
    for rows in rows_at_a_time(leaf) if leaf.shape else [slice(0, 1)]:
        slab = np.empty((rows.stop - rows.start, *leaf.shape[1:]) if leaf.shape else (), leaf.dtype)
        flat, first = slab.reshape(-1), 0
        while first < flat.size:
            rest = rest if rest.size else next(coming)
            part, rest = rest[: flat.size - first], rest[flat.size - first :]
            flat[first : first + part.size] = part
            first += part.size
        yield slab
    # What reads the last block may have something to compare behind it.
    for _ in coming:
        raise AssertionError("there are more blocks than values")


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
