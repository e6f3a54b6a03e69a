"""Compare two checkpoints parameter by parameter, under common names.

Distances are norms: ``|A - B| / max(|A|, |B|)``, between 0 and 2, so that arrays of any size and scale compare. Both
sides are read a block at a time, several parameters at once. Blocks of the same bits need no arithmetic; a parameter
with one that differs is read again and compared in float64.
"""

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pi0_compat.errors import LoadError
from pi0_compat.layouts.judged import judge_checkpoint
from pi0_compat.layouts.layout import ADAPTER_WEIGHTS, Detected, Layout
from pi0_compat.layouts.locate import Located, located
from pi0_compat.layouts.open import open_parameters
from pi0_compat.layouts.sizes import model_of, sizes_of
from pi0_compat.layouts.torch.safetensors_folder import open_tensors
from pi0_compat.model.named import spec_of
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.norm_stats.compare import StatsApart, stats_apart
from pi0_compat.norm_stats.found import norm_stats_of
from pi0_compat.params import Leaf, num_bytes
from pi0_compat.paths import unused_in
from pi0_compat.progress import Progress, no_progress
from pi0_compat.storage.stream import CACHED_VALUES, Source
from pi0_compat.storage.threads import Report, for_each

_TORCH = (Layout.OPENPI_PYTORCH, Layout.LEROBOT, Layout.HUGGING_FACE, Layout.PEFT)


class Diff(NamedTuple):
    """The comparison of two checkpoints.

    Attributes:
      left, right: the checkpoints, with the names to print.
      pairs: every parameter that a model uses: first those that are not on both sides in the same shape, then by
        distance, largest first.
      unused: (path, "A" or "B") of what only one side has and no model uses.
      norm_stats: the statistics that differ between norm stats that both sides have, furthest apart first.
      problems: (side, words) of what a side lacks or has in another shape, whatever the other has.
    """

    left: Located
    right: Located
    pairs: list["Compared"]
    unused: list[tuple[str, str]]
    norm_stats: list[StatsApart]
    problems: list[tuple[str, str]]

    def differing(self, tolerance: float = 0.0) -> list["Compared"]:
        """Return the pairs that differ.

        Args:
          tolerance: the largest relative distance that still counts as equal; 0 means equal bits and dtypes.
        """
        return [pair for pair in self.pairs if pair.differs_by_more_than(tolerance)]


class Distance(NamedTuple):
    """The distance between the values of a parameter on both sides.

    Attributes:
      relative: norm of the difference over the larger norm; infinite where only one side is finite.
      largest: the largest absolute difference of two values.
      differing: how many values differ.
      size: how many values there are.
    """

    relative: float
    largest: float
    differing: int
    size: int


class Compared(NamedTuple):
    """A parameter on both sides; ``distance`` is None unless both have it in the same shape."""

    path: str
    left: Leaf | None
    right: Leaf | None
    distance: Distance | None

    @property
    def differs(self) -> bool:
        """Whether anything differs, even if only the dtype."""
        return self.left != self.right or self.distance is None or self.distance.differing > 0

    def differs_by_more_than(self, tolerance: float) -> bool:
        """Return whether the values are further apart than ``tolerance``; with 0, whether anything is different."""
        if self.distance is None or not tolerance:
            return self.differs
        return self.distance.relative > tolerance


def diff_checkpoints(
    left: str | os.PathLike[str],
    right: str | os.PathLike[str],
    *,
    config: Pi0Spec | str | None = None,
    progress: Progress = no_progress,
) -> Diff:
    """Compare two checkpoints parameter by parameter, in structure and values, whatever their layouts.

    Parameters are compared under openpi's names, or under their own where both are PyTorch's of the same layout. Arrays
    are read a slab at a time.

    Args:
      left, right: checkpoints in any layout, local or URLs (downloaded once into the cache).
      config: the model of both, or the name of its config, where neither layout tells its sizes.
      progress: shows how far the comparison is.

    Raises:
      CheckpointError: one of them is not a checkpoint, or is damaged.
      LoadError: one does not hold a model, or cannot be of the same model as the other.
      ValueError: no config has the name ``config``.
    """
    model = spec_of(config)
    one, other = located(left), located(right)
    with (
        open_both(one.checkpoint, other.checkpoint, model) as (a, b),
        progress("comparing", num_bytes(a.leaves)) as advance,
    ):
        stats = stats_apart(norm_stats_of(one.checkpoint), norm_stats_of(other.checkpoint))
        problems = _problems(one.checkpoint, other.checkpoint)
        return Diff(one, other, compare(a, b, advance), unused(a, b), stats, problems)


def _problems(left: Detected, right: Detected) -> list[tuple[str, str]]:
    """Return what inspect says of each side too: two checkpoints that lack the same are the same, and not whole."""
    sides = (("A", left), ("B", right))
    return [(side, line) for side, found in sides for line in judge_checkpoint(found).verdict.problems]


@contextmanager
def open_both(left: Detected, right: Detected, model: Pi0Spec | None = None) -> Iterator[tuple[Source, Source]]:
    """Open two checkpoints under common names.

    The names are openpi's, unless both are PyTorch's in the same layout: those are compared under their own names.
    Where a layout does not show the size of a head, and no model is given, the other checkpoint's sizes are used.

    Raises:
      CheckpointError: one cannot be read.
      LoadError: one does not hold a model, or cannot be of the same model as the other.
    """
    with ExitStack() as stack:
        for side in (left, right):
            judge_checkpoint(side).verdict.require_known(side.path)
        if left.layout is right.layout and left.layout in _TORCH:
            one, other = (stack.enter_context(open_tensors(_weights(side))) for side in (left, right))
            yield one, other
            return
        if model is None:
            model = _model_of_either(left, right)
        yield stack.enter_context(open_parameters(left, model)), stack.enter_context(open_parameters(right, model))


def compare(left: Source, right: Source, progress: Callable[[int], None] = lambda done: None) -> list[Compared]:
    """Return every parameter that a model uses: those not on both sides, then by distance, largest first.

    Args:
      left, right: open checkpoints.
      progress: is called with the bytes of each of the left side's arrays that is done.

    Raises:
      CheckpointError: an array cannot be read.
    """
    idle = {path for path, _ in unused(left, right)}
    paths = sorted((left.leaves.keys() | right.leaves.keys()) - idle)

    def compared(path: str, report: Report) -> Compared:
        one, other = left.leaves.get(path), right.leaves.get(path)
        comparable = one is not None and other is not None and one.shape == other.shape
        apart = distance(lambda: _side_by_side(path, left, right, report)) if comparable else None
        with lock:
            progress(one.num_bytes if one else 0)
        return Compared(path, one, other, apart)

    lock = threading.Lock()
    done = for_each(sorted(paths, key=lambda path: _size(path, left, right), reverse=True), compared)
    pairs = [done[path] for path in paths]
    return sorted(pairs, key=lambda pair: -pair.distance.relative if pair.distance else -math.inf)


def _size(path: str, left: Source, right: Source) -> int:
    """Return the bytes that are read of a parameter."""
    return sum(side.leaves[path].num_bytes for side in (left, right) if path in side.leaves)


def _side_by_side(path: str, left: Source, right: Source, report: Report) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the same values of both sides."""
    for pair in zip(left.blocks(path), right.blocks(path), strict=True):
        yield pair
        report(0)


def unused(left: Source, right: Source) -> list[tuple[str, str]]:
    """Return what one side alone has and no model uses, with that side, A or B; see ``unused_in``."""
    sides = (("A", left.leaves, right.leaves), ("B", right.leaves, left.leaves))
    return sorted((path, side) for side, mine, others in sides for path in unused_in(mine) - others.keys())


def distance(read: Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]) -> Distance:
    """Return the distance between two arrays of one shape; NaN equals NaN.

    Args:
      read: yields the values of both, in flat blocks; it is called again if some differ.
    """
    size = 0
    for one, other in read():
        if not _same_bits(one, other):
            break
        size += one.size
    else:
        return Distance(0.0, 0.0, 0, size)
    sums = _Sums(0, 0, 0, 0, 0, 0, False)
    for one, other in read():
        for block in map(_sums, *_blocks(one, other)):
            sums = sums.plus(block)
    length = math.sqrt(max(sums.left, sums.right))
    relative = math.sqrt(sums.gap) / length if length else 0.0
    return Distance(
        math.inf if sums.torn else relative, math.inf if sums.torn else sums.largest, sums.differing, sums.size
    )


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and bool(np.array_equal(one.view(np.uint8), other.view(np.uint8)))


class _Sums(NamedTuple):
    """Sums over a part of two arrays: squares of both and of the difference; torn if one side alone is finite."""

    gap: float
    left: float
    right: float
    largest: float
    differing: int
    size: int
    torn: bool

    def plus(self, other: "_Sums") -> "_Sums":
        """Return the sums over both parts."""
        return _Sums(
            gap=self.gap + other.gap,
            left=self.left + other.left,
            right=self.right + other.right,
            largest=max(self.largest, other.largest),
            differing=self.differing + other.differing,
            size=self.size + other.size,
            torn=self.torn or other.torn,
        )


def _sums(left: np.ndarray, right: np.ndarray) -> _Sums:
    one, other = left.astype(np.float64), right.astype(np.float64)
    if np.array_equal(one, other) and np.isfinite(square := float(one @ one)):
        return _Sums(0, square, square, 0, 0, one.size, torn=False)
    unlike = ~((one == other) | (np.isnan(one) & np.isnan(other)))
    finite = np.isfinite(one) & np.isfinite(other)
    one, other = np.where(finite, one, 0), np.where(finite, other, 0)
    gap = one - other
    torn = bool((unlike & ~finite).any())
    return _Sums(
        float(gap @ gap),
        float(one @ one),
        float(other @ other),
        float(abs(gap).max()),
        int(unlike.sum()),
        one.size,
        torn,
    )


def _blocks(left: np.ndarray, right: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    starts = range(0, left.size, CACHED_VALUES)
    one, other = ([side[start : start + CACHED_VALUES] for start in starts] for side in (left, right))
    return one, other


def _weights(checkpoint: Detected) -> Path:
    return checkpoint.path / ADAPTER_WEIGHTS if checkpoint.layout is Layout.PEFT else checkpoint.path


def _model_of_either(left: Detected, right: Detected) -> Pi0Spec | None:
    """Return the model of the first side that shows its sizes; None if neither does."""
    for side in (left, right):
        if side.layout in _TORCH or side.layout is Layout.TRAIN_STATE:
            continue
        with open_parameters(side) as source:
            try:
                return model_of(sizes_of(source.leaves), source.leaves, side.path)
            except LoadError:
                continue
    return None
