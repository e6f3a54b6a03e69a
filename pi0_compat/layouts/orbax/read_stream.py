"""Read the parameters of an orbax checkpoint a slab or a block at a time.

orbax cuts a large array along its longest axis into chunks of 2 GB, each with a part of every layer. Here chunks that
lie side by side are decoded side by side, a slab or a block of all of them at a time. So a checkpoint is read once, in
C order, and only a slab is in memory, whatever the chunks are.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import numpy as np

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.arrays import StoredArray, open_arrays
from pi0_compat.layouts.orbax.blocks import blocks_of
from pi0_compat.layouts.orbax.chunks import ChunkStream
from pi0_compat.layouts.orbax.item import naming_damage
from pi0_compat.layouts.orbax.metadata import Metadata
from pi0_compat.layouts.orbax.read import restore_leaves
from pi0_compat.params import Leaf
from pi0_compat.storage import digests as integrity
from pi0_compat.storage.stream import Origin, Source, cut, in_blocks, rows_at_a_time


class StoredParameters(Source):
    """The parameters of an orbax checkpoint; the digest of each is compared, if recorded, while it is read.

    Attributes:
      stored: the checkpoint's metadata.
    """

    def __init__(self, stored: Metadata) -> None:
        self.path = stored.path
        self.leaves = stored.leaves
        self.stored = stored
        self._digests = stored.digests
        with naming_damage(stored.path):
            self._arrays = open_arrays(stored.path, stored.keys, stored.leaves)

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """Return a parameter in the stored dtype, or cast; its digest is not compared."""
        return np.asarray(restore_leaves(self.stored, {path: dtype}, verify=False)[path])

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a parameter as it is stored.

        Raises:
          CheckpointError: the parameter cannot be read, or is not what was saved, which is known only after its last
            slab.
        """
        return self._verified(path, self._slabs(path))

    def blocks(self, path: str) -> Iterator[np.ndarray]:
        """Yield the values of ``slabs`` in blocks, in the same memory each; raise as ``slabs``."""
        return self._verified(path, self._blocks(path))

    def origin(self, path: str) -> Origin | None:
        """Return the stored array and its recorded digest; None for an array without values."""
        array = self._arrays.get(path)
        return array and Origin(array, self._digests.get(path))

    def _verified(self, path: str, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        digest = integrity.Digest(self.leaves[path])
        for part in parts:
            if path in self._digests:
                digest.update(part)
            yield part
        if path in self._digests:
            integrity.verify(self.path, {path: digest.hexdigest()}, self._digests)

    def _slabs(self, path: str) -> Iterator[np.ndarray]:
        array = self._arrays.get(path)
        if array is None:  # it has no values, so nothing is stored
            yield from cut(self.read(path))
            return
        with self._naming_damage(path):
            yield from _decoded(array)

    def _blocks(self, path: str) -> Iterator[np.ndarray]:
        array = self._arrays.get(path)
        if array is None or not array.leaf.shape or not array.is_known():
            yield from in_blocks(self.leaves[path].shape, self._slabs(path))
            return
        with self._naming_damage(path):
            yield from blocks_of(array)

    @contextmanager
    def _naming_damage(self, path: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # tensorstore raises all kinds
            raise CheckpointError(f"{self.path}: the checkpoint is damaged or incomplete ({path}: {error})") from error


def _decoded(array: StoredArray) -> Iterator[np.ndarray]:
    """Yield the slabs of an array from the files of its chunks or, where these are not known, through tensorstore."""
    shape, chunk = array.leaf.shape, array.chunk
    if not shape:
        yield _box(array, ())
        return
    grid = [range(-(-length // side)) for length, side in zip(shape, chunk, strict=True)]
    files = array.files
    for row in grid[0]:
        band = slice(row * chunk[0], min((row + 1) * chunk[0], shape[0]))
        columns = [(row, *rest) for rest in itertools.product(*grid[1:])]
        if files and all(files.has(column) for column in columns):
            yield from _side_by_side(array, band, columns)
        else:
            yield from cut(_box(array, (band,)))


def _box(array: StoredArray, box: tuple[slice, ...]) -> np.ndarray:
    return np.asarray(array.store[box].read().result())


def _side_by_side(array: StoredArray, band: slice, columns: list[tuple[int, ...]]) -> Iterator[np.ndarray]:
    """Yield the slabs of a band of rows that is one chunk, or several chunks side by side."""
    assert array.files
    leaf, chunk = array.leaf, array.chunk
    within = Leaf((band.stop - band.start, *leaf.shape[1:]), leaf.dtype)
    with ExitStack() as stack, ThreadPoolExecutor(min(len(columns), os.cpu_count() or 1)) as threads:
        streams = [stack.enter_context(closing(array.files.stream(column, leaf.dtype))) for column in columns]
        places = [
            tuple(slice(n * side, (n + 1) * side) for n, side in zip(column[1:], chunk[1:], strict=True))
            for column in columns
        ]
        for rows in rows_at_a_time(within):
            slab = np.empty((rows.stop - rows.start, *leaf.shape[1:]), leaf.dtype)
            fill = _filler(slab)
            list(threads.map(fill, streams, places) if len(streams) > 1 else map(fill, streams, places))
            yield slab
        for stream in streams:
            stream.end()


def _filler(slab: np.ndarray) -> Callable[[ChunkStream, tuple[slice, ...]], None]:
    return lambda stream, place: stream.fill(slab[(slice(None), *place)])
