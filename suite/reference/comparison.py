"""Two checkpoints, parameter by parameter, under common names: what only one has, and how far values are apart.

Distances are norms: ``|A - B| / max(|A|, |B|)``, between 0 and 2, so that arrays of any size and scale compare. Arrays
are read one pair at a time and compared in blocks, in float64.
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from suite.reference.accounting import Source
from suite.reference.errors import LoadError
from suite.reference.layouts.opening import open_parameters
from suite.reference.layouts.openpi_pytorch import UNUSED_HEAD
from suite.reference.layouts.recognition import ADAPTER_WEIGHTS, Layout, Recognised
from suite.reference.layouts.safetensors_folder import open_tensors
from suite.reference.params import Leaf
from suite.reference.pi0_config import Pi0Config
from suite.reference.sizes import model_of, sizes_of

_BLOCK = 1 << 18
_ROWS = re.compile(r"\[\d+:\]$")
_TORCH = (Layout.OPENPI_PYTORCH, Layout.HUGGING_FACE, Layout.PEFT)


class Distance(NamedTuple):
    """How far the values of one parameter are apart.

    Attributes:
      relative: norm of the difference over the larger norm; infinite where only one side is finite.
      largest: the largest absolute difference of two values.
      differing: how many values differ.
      size: how many there are.
    """

    relative: float
    largest: float
    differing: int
    size: int


class Compared(NamedTuple):
    """One parameter on both sides; ``distance`` is None unless both have it in the same shape."""

    path: str
    left: Leaf | None
    right: Leaf | None
    distance: Distance | None

    @property
    def differs(self) -> bool:
        """Whether anything is different, be it the dtype alone."""
        return self.left != self.right or self.distance is None or self.distance.differing > 0


@contextmanager
def open_both(left: Recognised, right: Recognised, model: Pi0Config | None = None) -> Iterator[tuple[Source, Source]]:
    """Open two checkpoints under common names.

    openpi's, unless both are PyTorch's in the same layout: those are compared as they are. Where a layout does not tell
    how long a head is, and no model is given, the other checkpoint's sizes are taken.

    Raises:
      CheckpointError: one cannot be read.
      LoadError: one does not hold a model, or cannot be of the same model as the other.
    """
    with ExitStack() as stack:
        if left.layout is right.layout and left.layout in _TORCH:
            yield tuple(stack.enter_context(open_tensors(_weights(side))) for side in (left, right))  # type: ignore[misc]
            return
        if model is None:
            model = _model_of_either(left, right)
        yield stack.enter_context(open_parameters(left, model)), stack.enter_context(open_parameters(right, model))


def compare(left: Source, right: Source, progress: Callable[[int], None] = lambda done: None) -> list[Compared]:
    """Every parameter that a model uses: those that are not on both sides, then from the largest distance to none.

    Args:
      left, right: open checkpoints.
      progress: is told the bytes of the left side's arrays as they are done.

    Raises:
      CheckpointError: an array cannot be read.
    """
    found = []
    for path in sorted((left.leaves.keys() | right.leaves.keys()) - {path for path, _ in unused(left, right)}):
        one, other = left.leaves.get(path), right.leaves.get(path)
        comparable = one is not None and other is not None and one.shape == other.shape
        found.append(Compared(path, one, other, distance(left.read(path), right.read(path)) if comparable else None))
        progress(one.num_bytes if one else 0)
    return sorted(found, key=lambda pair: -pair.distance.relative if pair.distance else -math.inf)


def unused(left: Source, right: Source) -> list[tuple[str, str]]:
    """What one layout has and no model uses, with the side (A or B): rows that transformers added, a head of openpi's.

    Not what is on both sides.
    """
    sides = (("A", left.leaves.keys() - right.leaves.keys()), ("B", right.leaves.keys() - left.leaves.keys()))
    return sorted((path, side) for side, paths in sides for path in paths if path == UNUSED_HEAD or _ROWS.search(path))


def distance(left: np.ndarray, right: np.ndarray) -> Distance:
    """How far two arrays of the same shape are apart; NaN is the same as NaN."""
    norms = np.zeros(3)
    largest, differing, torn = 0.0, 0, False
    for one, other in _blocks(left, right):
        unlike = ~((one == other) | (np.isnan(one) & np.isnan(other)))
        finite = np.isfinite(one) & np.isfinite(other)
        torn |= bool((unlike & ~finite).any())
        gap = np.where(unlike & finite, one, 0) - np.where(unlike & finite, other, 0)
        norms += [gap @ gap, *(part @ part for part in (np.where(finite, one, 0), np.where(finite, other, 0)))]
        largest, differing = max(largest, float(abs(gap).max())), differing + int(unlike.sum())
    whole = math.sqrt(max(norms[1:]))
    relative = math.sqrt(norms[0]) / whole if whole else 0.0
    return Distance(math.inf if torn else relative, math.inf if torn else largest, differing, left.size)


def _blocks(left: np.ndarray, right: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    one, other = left.reshape(-1), right.reshape(-1)
    for start in range(0, one.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        yield one[block].astype(np.float64), other[block].astype(np.float64)


def _weights(found: Recognised) -> Path:
    return found.path / ADAPTER_WEIGHTS if found.layout is Layout.PEFT else found.path


def _model_of_either(left: Recognised, right: Recognised) -> Pi0Config | None:
    """The model that one of them tells the sizes of, if the other does not."""
    for side in (left, right):
        if side.layout in _TORCH or side.layout is Layout.TRAIN_STATE:
            continue
        with open_parameters(side) as source:
            try:
                return model_of(sizes_of(source.leaves), source.leaves, side.path)
            except LoadError:
                continue
    return None
