"""What the values of a checkpoint give away: NaN, infinities, constants, arrays still as they were initialised.

A fresh array is told by a chi-square test: the initialiser's quantiles part its values into equally likely bins, and a
sample is counted. A fresh one keeps within a few deviations of the expected count. Training changes spread and tails:
of a large array, four percent of the spread show. Small arrays are not judged.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from suite.reference.accounting import Source, is_float
from suite.reference.initialization import constant_of, quantiles_of
from suite.reference.params import is_adapter

_BLOCK = 1 << 20
# A larger sample would show that bfloat16 rounds; a smaller one tells nothing.
_SAMPLE, _TOO_SMALL = 1 << 15, 1 << 12
_BINS = 64
# The statistic of a fresh array has the mean BINS - 1, and twice that as variance; rounding to bfloat16 adds to both.
_LIMIT = (_BINS - 1) + 8 * (2 * (_BINS - 1)) ** 0.5
_STACKS = ("/layers/", "/encoderblock/")


class Finding(NamedTuple):
    """Something that the values of one parameter give away.

    Attributes:
      finding: what it is.
      evidence: what was seen.
      expected: whether a good checkpoint may have it.
    """

    path: str
    finding: str
    evidence: str
    expected: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.finding} ({self.evidence})"


def examine(source: Source, progress: Callable[[int], None] = lambda done: None) -> list[Finding]:
    """Everything that is conspicuous, in the order of the paths; arrays are read one at a time.

    Args:
      source: an open checkpoint.
      progress: is told the bytes of each array that is done.

    Raises:
      CheckpointError: an array cannot be read.
    """
    found: list[Finding] = []
    for path, leaf in source.leaves.items():
        if is_float(leaf.dtype) and leaf.num_bytes:
            found += _examine(path, source.read(path))
        progress(leaf.num_bytes)
    return found


def _examine(path: str, array: np.ndarray) -> Iterator[Finding]:
    nan, infinite = _not_finite(array)
    if nan or infinite:
        words = [f"{nan} NaN"] * bool(nan) + [f"{infinite} infinite"] * bool(infinite)
        yield Finding(path, "values that are not finite", f"{' and '.join(words)} of {array.size}", expected=False)
    elif array.size > 1 and (value := _constant(array)) is not None:
        yield _constant_finding(path, value, array.size)
    else:
        yield from _constant_layers(path, array)
        if evidence := _fresh(path, array):
            yield Finding(path, "looks freshly initialised", evidence, expected=_may_be_fresh(path))


def _not_finite(array: np.ndarray) -> tuple[int, int]:
    """How many values are NaN, and how many infinite."""
    nan = infinite = 0
    for block in _blocks(array):
        if not np.isfinite(block).all():
            nan += int(np.isnan(block).sum())
            infinite += int(np.isinf(block).sum())
    return nan, infinite


def _constant(array: np.ndarray) -> float | None:
    """The value that all have; None if they differ."""
    first = array.reshape(-1)[0]
    return float(first) if all((block == first).all() for block in _blocks(array)) else None


def _constant_finding(path: str, value: float, size: int) -> Finding:
    kind = "all zero" if value == 0 else "constant"
    fresh = value == constant_of(path)
    evidence = f"all {size} values are {value:g}{', as freshly initialised' if fresh else ''}"
    if path.endswith("lora_b") and value == 0:
        return Finding(path, kind, f"{evidence}: a fresh adapter, which adds nothing yet", expected=True)
    return Finding(path, kind, evidence, expected=path.endswith("/bias") and value == 0)


def _constant_layers(path: str, array: np.ndarray) -> Iterator[Finding]:
    """Layers of a stack that hold one value only: lost, or never filled."""
    if not any(stack in path for stack in _STACKS) or array.ndim < 2 or array[0].size < 2:
        return
    constant = [number for number, layer in enumerate(array) if _constant(layer) is not None]
    if constant:
        numbers = ", ".join(map(str, constant))
        yield Finding(
            path, "constant layers", f"{numbers} of {len(array)}", expected=path.endswith(("/bias", "lora_b"))
        )


def _fresh(path: str, array: np.ndarray) -> str | None:
    """The evidence that an array is still as it was drawn; None if it is not, or if it is too small to tell."""
    if array.size < _TOO_SMALL:
        return None
    # openpi draws lora_b as it draws lora_a (bugs A1).
    drawn_as = f"{path.removesuffix('lora_b')}lora_a" if path.endswith("lora_b") else path
    edges = quantiles_of(drawn_as, array.shape, _BINS)
    if edges is None:
        return None
    sample = array.reshape(-1)[:: max(1, array.size // _SAMPLE)].astype(np.float64)
    # What is rounded may lie a little out of bounds.
    if abs(sample).max() > edges[-1] * 1.01:
        return None
    counts = np.histogram(np.clip(sample, edges[0], edges[-1]), np.nan_to_num(edges, posinf=1e30, neginf=-1e30))[0]
    expected = sample.size / _BINS
    statistic = float(((counts - expected) ** 2).sum() / expected)
    if statistic > _LIMIT:
        return None
    return (
        f"{sample.size} values are spread as the initialiser draws them: chi-square {statistic:.0f} in {_BINS} bins, "
        f"up to {_LIMIT:.0f} is chance"
    )


def _may_be_fresh(path: str) -> bool:
    """Adapters: a short fine-tuning moves lora_b, and lora_a hardly."""
    return is_adapter(path) or path.endswith("/bias")


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """The values, some at a time, in a dtype that numpy is quick with."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        yield block if block.dtype.itemsize > 2 else block.astype(np.float32)
