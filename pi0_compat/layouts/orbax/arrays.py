"""Read the arrays of an orbax checkpoint chunk by chunk, on all cores, and cast them on the way.

orbax keeps each array as zarr in a key-value store of tensorstore (OCDBT). Reading through orbax, arrays come one after
another or all at once, in memory of its own. Here each chunk is decoded from its file into its place in the result,
and the number decoded at once is limited by the memory that it takes.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts

from pi0_compat.layouts.orbax.address import array_spec, read_tree_metadata
from pi0_compat.layouts.orbax.chunks import TAKEN, ChunkFiles, chunk_files, places
from pi0_compat.params import Leaf
from pi0_compat.storage.bounded import Bounded
from pi0_compat.storage.stream import BLOCK_BYTES

Box = tuple[slice, ...]
# Neighboring chunks are read as one piece up to this size: there may be a million tiny ones.
_PIECE = BLOCK_BYTES
# A jax array on the CPU takes over memory that begins at a multiple of this; other memory it copies.
_ALIGNMENT = 64
# The least memory to allow: enough for a small array and its encoded bytes.
_LEAST = 32 << 20


class StoredArray(NamedTuple):
    """An open array; none of its values has been read.

    Attributes:
      store: the array in tensorstore.
      leaf: its shape and dtype.
      files: where its chunks are; None if they cannot be decoded without tensorstore.
    """

    store: Any
    leaf: Leaf
    files: ChunkFiles | None = None

    def pieces(self) -> list[Box]:
        """Return the parts to read at a time: a chunk, or several small neighboring chunks."""
        shape, sides = self.leaf.shape, self._sides()
        starts = (range(0, length, side) for length, side in zip(shape, sides, strict=True))
        return [
            tuple(
                slice(first, min(first + side, length))
                for first, side, length in zip(corner, sides, shape, strict=True)
            )
            for corner in itertools.product(*starts)
        ]

    def is_known(self) -> bool:
        """Return whether every chunk can be decoded from its file, without tensorstore."""
        return self.files is not None and all(map(self.files.has, self.chunks()))

    def chunks(self) -> Iterator[tuple[int, ...]]:
        """Yield the number of every chunk along each axis."""
        return itertools.product(*map(range, self._grid()))

    @property
    def num_chunks(self) -> int:
        """The number of chunks."""
        return math.prod(self._grid())

    def _grid(self) -> list[int]:
        """Return the number of chunks along each axis."""
        return [-(-length // side) for length, side in zip(self.leaf.shape, self.chunk, strict=True)]

    def bytes_to_read(self, piece: Box, dtype: np.dtype) -> int:
        """Return the bytes of memory that reading a piece takes, cast to a dtype.

        This is its place and some blocks; or, through tensorstore, the file's bytes and the decoded ones, then those
        and its place.
        """
        whole = 2 * self.leaf.dtype.itemsize * _size(piece)
        return dtype.itemsize * _size(piece) + min(TAKEN, whole) if self._chunk_of(piece) else whole

    @property
    def largest_piece(self) -> int:
        """The number of values in the largest piece."""
        return max(map(_size, self.pieces()))

    def read(self, piece: Box, target: np.ndarray) -> int:
        """Read a piece into its place in an array of the same shape, cast to that array's dtype; the bytes written."""
        if not self._decode(piece, target[piece]):
            ts.array(target)[piece].write(self.cast(target.dtype)[piece]).result()
        return target.itemsize * _size(piece)

    def cast(self, dtype: np.dtype) -> Any:
        """Return the array in tensorstore, cast to ``dtype`` while it is read."""
        return self.store if dtype == self.leaf.dtype else ts.cast(self.store, ts.dtype(dtype))

    def _decode(self, piece: Box, target: np.ndarray) -> bool:
        """Decode the piece without tensorstore if it is one chunk; return whether that worked."""
        chunk = self._chunk_of(piece)
        return bool(self.files and chunk and self.files.decode(chunk, target, self.leaf.dtype))

    def _chunk_of(self, piece: Box) -> tuple[int, ...] | None:
        """Return the number of the chunk along each axis; None if the piece is several, or its file unknown."""
        lengths = tuple(part.stop - part.start for part in piece)
        if not self.files or lengths != self.chunk:
            return None
        chunk = tuple(part.start // length for part, length in zip(piece, lengths, strict=True))
        return chunk if self.files.has(chunk) else None

    def _sides(self) -> list[int]:
        """Return the length of a piece along each axis: whole chunks, the last axes first, while it stays small."""
        sides = [min(side, length) or 1 for side, length in zip(self.chunk, self.leaf.shape, strict=True)]
        for axis in reversed(range(len(sides))):
            size = math.prod(sides) * self.leaf.dtype.itemsize
            more = min(_PIECE // size, -(-self.leaf.shape[axis] // sides[axis])) if size else 1
            sides[axis] *= max(1, more)
        return sides

    @property
    def chunk(self) -> tuple[int, ...]:
        """The shape of a chunk; empty for a scalar."""
        return tuple(self.store.chunk_layout.read_chunk.shape or ())


def _size(piece: Box) -> int:
    return math.prod(part.stop - part.start for part in piece)


def open_arrays(
    folder: Path, names: Mapping[str, tuple[str, ...]], leaves: Mapping[str, Leaf]
) -> dict[str, StoredArray]:
    """Open arrays for reading. Arrays without values are left out: nothing is stored for them.

    Args:
      folder: the checkpoint.
      names: path -> the keys of the array in the tree.
      leaves: path -> shape and dtype that the checkpoint's metadata claim.

    Raises:
      Exception: tensorstore cannot open an array, or it is not what the metadata claim.
    """
    # One context: the arrays share a cache of the store's own nodes.
    context = ts.Context()
    metadata = read_tree_metadata(folder)
    folder = folder.resolve()
    specs = {path: array_spec(folder, keys, metadata) for path, keys in names.items() if leaves[path].num_bytes}
    opening = {path: ts.open(spec, open=True, context=context) for path, spec in specs.items()}
    files = functools.partial(chunk_files, folder, places(folder))
    return {path: _opened(path, future.result(), leaves[path], files) for path, future in opening.items()}


def _opened(path: str, store: Any, leaf: Leaf, files: Callable[[Any, Leaf], ChunkFiles | None]) -> StoredArray:
    found = Leaf(tuple(store.shape), store.dtype.numpy_dtype)
    if found != leaf:
        raise ValueError(f"{path}: the metadata claim {leaf}, {found} is stored")
    return StoredArray(store, leaf, files(store, leaf))


class Reading(NamedTuple):
    """How to read an array, and what to do with it.

    Attributes:
      array: the array.
      dtype: the dtype to cast to while reading.
      kept: the bytes of it that stay on the host in the end.
      allocate: makes the array to read into.
      finish: turns the array into the result; called in another thread.
      take: receives the result, in the caller's thread.
    """

    array: StoredArray
    dtype: np.dtype
    kept: int
    allocate: Callable[[tuple[int, ...], np.dtype], np.ndarray]
    finish: Callable[[np.ndarray], Any]
    take: Callable[[Any], None]


def read_all(readings: Iterable[Reading]) -> None:
    """Read arrays, several at a time.

    The host holds no more than what stays there and a sixteenth of what is stored, or one piece of an array.

    Raises:
      Exception: what tensorstore, ``finish`` or ``take`` raised.
    """
    # Largest pieces first: when little memory is left, the rest is small, and no core ends up alone with a large one.
    readings = sorted(readings, key=lambda reading: reading.array.largest_piece, reverse=True)
    stored = sum(reading.array.leaf.num_bytes for reading in readings)
    kept = sum(reading.kept for reading in readings)
    # An array that leaves the host while others are read makes room for what a result in half precision takes.
    with Bounded(max(kept, stored // 2) + max(stored // 16, _LEAST)) as jobs:
        for reading in readings:
            _read(reading, jobs)


def _read(reading: Reading, jobs: Bounded) -> None:
    array = reading.array
    pieces, target = array.pieces(), reading.allocate(array.leaf.shape, reading.dtype)
    missing = itertools.count(len(pieces) - 1, -1)

    def landed(size: int) -> None:
        # Memory is only taken when it is first written to: so far the target took none for this piece.
        jobs.hold(size)
        if next(missing) == 0:
            # While finishing casts it, an array is in memory twice.
            jobs.do(reading.kept, functools.partial(reading.finish, target), finished)

    def finished(result: Any) -> None:
        jobs.hold(reading.kept - target.nbytes)
        reading.take(result)

    for piece in pieces:
        needed = array.bytes_to_read(piece, reading.dtype)
        jobs.make_room(needed)
        jobs.do(needed, functools.partial(array.read, piece, target), landed)


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an empty array in memory that jax takes over on the CPU without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
