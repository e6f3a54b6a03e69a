"""Parameters as a stream of slabs: parts along the first axis, in their order, so that none is ever in memory whole.

A stacked array of a real pi0 has up to 5 GB, a layer of it 268 MB. Whoever reads a layout this way has ``path``,
``leaves`` and ``slabs``; folding, casting and choosing are such readers of another one (``rewriting``).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from pi0_compat.params import Leaf

# Bytes of small arrays that are read at once; of larger ones, one is read at a time.
_WINDOW = 64 << 20


# What a slab has at most, if it has more than one row; a layer of the largest array of pi0 has 268 MB.
_SLAB = 64 << 20


class Parameters(Protocol):
    """What can be read a slab at a time.

    Attributes:
      path: the file or folder, for messages.
      leaves: path -> shape and dtype of every parameter.
    """

    path: Path
    leaves: dict[str, Leaf]

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """A parameter in parts along its first axis, first to last; of a scalar, the scalar."""


class Checkpoint(Parameters, Protocol):
    """An open checkpoint, which can be read either way."""

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """A parameter, in the dtype of the file or cast."""


class Counted:
    """The same parameters; how many bytes went by is told."""

    def __init__(self, source: Parameters, advance: Callable[[int], None]) -> None:
        self.path, self.leaves, self._source, self._advance = source.path, source.leaves, source, advance

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """As they are."""
        for slab in self._source.slabs(path):
            yield slab
            self._advance(slab.nbytes)


def rows_at_a_time(leaf: Leaf) -> Iterator[slice]:
    """The parts along its first axis in which an array is read: as many rows as a slab may have, and one at least."""
    length = leaf.shape[0]
    step = max(1, _SLAB * length // leaf.num_bytes) if leaf.num_bytes else max(1, length)
    return (slice(first, min(first + step, length)) for first in range(0, length, step))


def cut(array: np.ndarray) -> Iterator[np.ndarray]:
    """The slabs of an array that is there."""
    if not array.ndim:
        yield array
        return
    yield from (array[rows] for rows in rows_at_a_time(Leaf(array.shape, array.dtype)))


def whole(slabs: Iterable[np.ndarray]) -> np.ndarray:
    """An array of its slabs: for what is small."""
    parts = list(slabs)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def read_ahead(slabs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same slabs; each is made ready in another thread while the one before it is used."""
    rest = iter(slabs)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, rest, None)
        while (slab := coming.result()) is not None:
            coming = thread.submit(next, rest, None)
            yield slab


def slabs_ahead(source: Parameters, path: str) -> Iterator[np.ndarray]:
    """The slabs of a parameter, read ahead where there is more than one."""
    slabs = source.slabs(path)
    return slabs if source.leaves[path].num_bytes <= _SLAB else read_ahead(slabs)


def regrouped(slabs: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """The same rows, so many at a time; the last ones may be fewer."""
    held: list[np.ndarray] = []
    for slab in slabs:
        rest = slab
        while len(rest):
            missing = rows - sum(map(len, held))
            held.append(rest[:missing])
            rest = rest[missing:]
            if len(held[-1]) == missing:
                yield whole(held)
                held = []
    if held:
        yield whole(held)


class Source(Protocol):
    """An open file in some layout, under openpi's names.

    Attributes:
      path: the file or folder, for messages.
      leaves: shape and dtype of every parameter that it holds.
    """

    path: Path
    leaves: dict[str, Leaf]

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """One parameter, in the dtype of the file, or already cast to ``dtype`` where that saves a copy."""


def windows(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Paths in their order, as many at once as may be held beside a result; a larger one alone."""
    group: list[str] = []
    for path in sizes:
        if group and sum(sizes[member] for member in group) + sizes[path] > _WINDOW:
            yield group
            group = []
        group.append(path)
    if group:
        yield group
