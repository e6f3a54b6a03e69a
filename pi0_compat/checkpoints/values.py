"""Find anomalies in the values of a checkpoint: NaN, infinities, constants, arrays that are as initialized.

A chi-square test finds arrays as initialized: the initializer's quantiles divide its values into equally likely bins,
and a sample is counted. The counts of a fresh array are within a few deviations of the expected ones. Training changes
spread and tails: in a large array, a change of the spread by four percent shows. Small arrays are not tested.
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from pi0_compat.floats import count_nonfinite, is_float
from pi0_compat.model.initialization import constant_of, quantiles_of
from pi0_compat.params import Leaf
from pi0_compat.paths import is_adapter, unused_in
from pi0_compat.storage.stream import Source
from pi0_compat.storage.threads import Report, for_each

# A larger sample would detect the rounding of bfloat16; a smaller one proves nothing.
_SAMPLE, _TOO_SMALL = 1 << 15, 1 << 12
_BINS = 64
# The statistic of a fresh array has the mean BINS - 1, and twice that as variance; rounding to bfloat16 adds to both.
_LIMIT = (_BINS - 1) + 8 * (2 * (_BINS - 1)) ** 0.5
# The first values decide for most arrays that they are not constant.
_FEW = 64
_STACKS = ("/layers/", "/encoderblock/")


class Finding(NamedTuple):
    """An anomaly in the values of one parameter.

    Attributes:
      finding: the kind of anomaly.
      evidence: what was measured.
      expected: whether a good checkpoint may have it.
    """

    path: str
    finding: str
    evidence: str
    expected: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.finding} ({self.evidence})"


def examine(source: Source, progress: Callable[[int], None] = lambda done: None) -> list[Finding]:
    """Return the anomalies of all parameters that a model uses, by path; arrays are read a slab at a time.

    Args:
      source: an open checkpoint.
      progress: is called with the bytes of each array that is done.

    Raises:
      CheckpointError: an array cannot be read.
    """
    unused = unused_in(source.leaves)

    def look(path: str, report: Report) -> list[Finding]:
        leaf = source.leaves[path]
        found: list[Finding] = []
        if is_float(leaf.dtype) and leaf.num_bytes and path not in unused:
            found += _examine(path, _look(leaf, source.blocks(path), report))
        with lock:
            progress(leaf.num_bytes)
        return found

    lock = threading.Lock()
    done = for_each(sorted(source.leaves, key=lambda path: source.leaves[path].num_bytes, reverse=True), look)
    return [finding for path in source.leaves for finding in done[path]]


class _Look(NamedTuple):
    """What one array is judged by.

    Attributes:
      constant: the value that all have; None if they differ.
      constant_rows: the numbers of the rows (layers of a stack) that hold a single value.
      sample: evenly spaced values, float64.
    """

    leaf: Leaf
    nan: int
    infinite: int
    constant: float | None
    constant_rows: list[int]
    sample: np.ndarray

    @property
    def size(self) -> int:
        return math.prod(self.leaf.shape)


def _look(leaf: Leaf, blocks: Iterable[np.ndarray], report: Report) -> _Look:
    nan = infinite = seen = 0
    first, constant, rows = None, True, _Rows(leaf)
    samples = []
    stride = max(1, math.prod(leaf.shape) // _SAMPLE)
    for block in blocks:
        if count_nonfinite(block):
            nan += int(np.isnan(block).sum())
            infinite += int(np.isinf(block).sum())
        first = block[0] if first is None else first
        constant = constant and _is_constant(block, first)
        samples.append(block[-seen % stride :: stride].astype(np.float64))
        rows.take(block)
        seen += block.size
        report(0)
    value = float(first) if constant and first is not None else None
    return _Look(leaf, nan, infinite, value, rows.constant, np.concatenate(samples))


class _Rows:
    """Find the rows of an array along its first axis that hold a single value.

    Attributes:
      constant: their numbers.
    """

    def __init__(self, leaf: Leaf) -> None:
        self.constant: list[int] = []
        self._size = math.prod(leaf.shape[1:]) if len(leaf.shape) > 1 else 0
        self._seen = 0
        self._value: np.generic | None = None

    def take(self, block: np.ndarray) -> None:
        """Look at the next values, which are whole rows or a part of one."""
        for start in range(0, block.size, self._size) if self._size else ():
            part = block[start : start + self._size]
            if self._seen % self._size == 0:
                self._value = part[0]
            if self._value is not None and not _is_constant(part, self._value):
                self._value = None
            self._seen += part.size
            if self._seen % self._size == 0 and self._value is not None:
                self.constant.append(self._seen // self._size - 1)


def _is_constant(values: np.ndarray, first: np.generic) -> bool:
    """Return whether all values are the same; for most arrays the first few decide."""
    return bool((values[:_FEW] == first).all() and (values == first).all())


def _examine(path: str, look: _Look) -> Iterator[Finding]:
    if look.nan or look.infinite:
        words = [f"{look.nan} NaN"] * bool(look.nan) + [f"{look.infinite} infinite"] * bool(look.infinite)
        evidence = f"{' and '.join(words)} of {look.size}"
        yield Finding(path, "values that are not finite", evidence, expected=False)
    elif look.size > 1 and look.constant is not None:
        yield _constant_finding(path, look.constant, look.size)
    else:
        yield from _constant_layers(path, look)
        if evidence := _fresh(path, look) or "":
            yield Finding(path, "looks freshly initialized", evidence, expected=_may_be_fresh(path))


def _constant_finding(path: str, value: float, size: int) -> Finding:
    kind = "all zero" if value == 0 else "constant"
    fresh = value == constant_of(path)
    evidence = f"all {size} values are {value:g}{', as freshly initialized' if fresh else ''}"
    if path.endswith("lora_b") and value == 0:
        return Finding(path, kind, f"{evidence}: a fresh adapter, which adds nothing yet", expected=True)
    return Finding(path, kind, evidence, expected=path.endswith("/bias") and value == 0)


def _constant_layers(path: str, look: _Look) -> Iterator[Finding]:
    """Yield layers of a stack that hold a single value: lost, or never filled."""
    depth = look.leaf.shape[0] if look.leaf.shape else 0
    if look.constant_rows and look.size > depth and any(stack in path for stack in _STACKS):
        numbers = ", ".join(map(str, look.constant_rows))
        yield Finding(path, "constant layers", f"{numbers} of {depth}", expected=path.endswith(("/bias", "lora_b")))


def _fresh(path: str, look: _Look) -> str | None:
    """Return the evidence that an array is as initialized; None if it is not, or is too small to tell."""
    if look.size < _TOO_SMALL:
        return None
    # openpi draws lora_b as it draws lora_a (docs/bugs.md#a1).
    drawn_as = f"{path.removesuffix('lora_b')}lora_a" if path.endswith("lora_b") else path
    edges = quantiles_of(drawn_as, look.leaf.shape, _BINS)
    if edges is None:
        return None
    sample = look.sample
    # Rounded values may lie slightly out of bounds.
    if abs(sample).max() > edges[-1] * 1.01:
        return None
    counts = np.histogram(np.clip(sample, edges[0], edges[-1]), np.nan_to_num(edges, posinf=1e30, neginf=-1e30))[0]
    expected = sample.size / _BINS
    statistic = float(((counts - expected) ** 2).sum() / expected)
    if statistic > _LIMIT:
        return None
    return (
        f"{sample.size} values are spread as the initializer draws them: chi-square {statistic:.0f} in {_BINS} bins, "
        f"up to {_LIMIT:.0f} is chance"
    )


def _may_be_fresh(path: str) -> bool:
    """Return whether a trained array may look fresh: a short fine-tuning hardly moves lora_a, and moves lora_b."""
    return is_adapter(path) or path.endswith("/bias")
