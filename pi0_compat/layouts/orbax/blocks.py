"""Decode an array block by block in C order, whatever its chunks are, with nothing but a block in memory."""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from pi0_compat.layouts.orbax.arrays import StoredArray
from pi0_compat.layouts.orbax.chunks import ChunkStream
from pi0_compat.storage.stream import block_axis, boxes

Chunk = tuple[int, ...]


def blocks_of(array: StoredArray) -> Iterator[np.ndarray]:
    """Yield the flat blocks of ``storage.stream.boxes``, each in the memory of the one before it.

    Args:
      array: an array with axes, all of whose chunks are known.

    Raises:
      OSError: a file cannot be read.
      ValueError: a chunk has fewer values than it should, or more.
      zstandard.ZstdError: a chunk is damaged.
    """
    leaf, axis = array.leaf, block_axis(array.leaf.shape)
    memory = np.empty(0, leaf.dtype)
    streams = _Streams(array)
    try:
        for lead, rows in boxes(leaf.shape):
            shape = (rows.stop - rows.start, *leaf.shape[axis + 1 :])
            if memory.size < math.prod(shape):
                memory = np.empty(math.prod(shape), leaf.dtype)
            block = memory[: math.prod(shape)].reshape(shape)
            for part in _within_chunks(rows, array.chunk[axis]):
                streams.fill(lead, part, block[part.start - rows.start : part.stop - rows.start])
            yield block.reshape(-1)
    finally:
        streams.close()


def _within_chunks(rows: slice, side: int) -> Iterator[slice]:
    """Yield the parts of a slice that lie in one chunk each, for chunks that are ``side`` long."""
    first = rows.start
    while first < rows.stop:
        end = min(rows.stop, (first // side + 1) * side)
        yield slice(first, end)
        first = end


class _Streams:
    """The chunks that are being decoded, each from its first value to its last."""

    def __init__(self, array: StoredArray) -> None:
        self._array, self._axis = array, block_axis(array.leaf.shape)
        # The chunks beside each other behind the axis that blocks cut, with their places in a row of that axis.
        sides, lengths = array.chunk[self._axis + 1 :], array.leaf.shape[self._axis + 1 :]
        grid = itertools.product(*(range(length // side) for length, side in zip(lengths, sides, strict=True)))
        self._beside = [
            (ends, tuple(slice(n * side, (n + 1) * side) for n, side in zip(ends, sides, strict=True))) for ends in grid
        ]
        self._open: dict[Chunk, tuple[ChunkStream, int]] = {}

    def fill(self, lead: tuple[int, ...], rows: slice, block: np.ndarray) -> None:
        """Decode rows below a leading index, which are all in the same chunks, into ``block`` [rows, ...]."""
        chunk, axis = self._array.chunk, self._axis
        first = (*(index // side for index, side in zip(lead, chunk, strict=False)), rows.start // chunk[axis])
        for ends, place in self._beside:
            number = (*first, *ends)
            stream, left = self._open[number] if number in self._open else self._begin(number)
            target = block[(slice(None), *place)]
            self._open[number] = stream, left - target.size
            stream.fill(target)
            if left == target.size:
                stream.end()
                del self._open[number]
                stream.close()

    def _begin(self, number: Chunk) -> tuple[ChunkStream, int]:
        assert self._array.files
        return self._array.files.stream(number, self._array.leaf.dtype), math.prod(self._array.chunk)

    def close(self) -> None:
        """Close all files."""
        for stream, _ in self._open.values():
            stream.close()
