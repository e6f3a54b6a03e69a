"""Summary statistics of samples: median, range, ratio of two subjects, operations per second."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Json = Mapping[str, Any]

# With fewer samples, the 5th percentile is practically the minimum.
_ENOUGH_FOR_PERCENTILES = 20
_RESAMPLES = 4000
# An interval of a ratio that is as wide as this and includes 1 shows no difference.
_NARROW = 0.1
_SEED = 20261122


class Range(NamedTuple):
    """The range of samples.

    Attributes:
      low: 5th percentile, or minimum.
      high: 95th percentile, or maximum.
      kind: ``p5..p95``, or ``min..max`` for fewer than twenty samples.
    """

    low: float
    high: float
    kind: str


class Ratio(NamedTuple):
    """A ratio of two medians with its 95 % interval.

    Attributes:
      low: the lower end of the interval.
      value: the ratio of the medians.
      high: the upper end.
    """

    low: float
    value: float
    high: float


def median(values: Sequence[float]) -> float:
    """Return the median; for an even count, the mean of the middle two."""
    return float(np.median(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, interpolated linearly between neighbors."""
    return float(np.percentile(values, percent))


def spread(values: Sequence[float]) -> Range:
    """Return the range of samples, without the outermost tenth if there are enough."""
    if len(values) < _ENOUGH_FOR_PERCENTILES:
        return Range(min(values), max(values), "min..max")
    return Range(percentile(values, 5), percentile(values, 95), "p5..p95")


def by_process(cell: Json, name: str = "wall_s") -> list[list[float]]:
    """Return a value of every sample, grouped by process."""
    processes = sorted({sample["process"] for sample in cell["samples"]})
    return [[x[name] for x in cell["samples"] if x["process"] == process] for process in processes]


def ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> Ratio:
    """Return the median of ``theirs`` over the median of ``ours``, with a 95 % bootstrap interval.

    Processes are resampled, then samples within each, since steps of one process are correlated. With three processes
    the interval is rough.

    Args:
      ours: samples by process.
      theirs: samples by process.
    """
    random = np.random.default_rng(_SEED)
    low, high = np.percentile(_resampled(theirs, random) / _resampled(ours, random), [2.5, 97.5])
    return Ratio(float(low), _middle(theirs) / _middle(ours), float(high))


def shows_a_difference(found: Ratio) -> bool:
    """Return whether a ratio may be claimed: its interval is narrower than a tenth, or 1 is not in it."""
    return found.high - found.low < _NARROW or not found.low <= 1 <= found.high


def _middle(groups: Sequence[Sequence[float]]) -> float:
    return median([value for group in groups for value in group])


def _resampled(groups: Sequence[Sequence[float]], random: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return medians of resamples; each drawn process contributes as many samples as the longest one has."""
    lengths = np.array([len(group) for group in groups])
    padded = np.array([[*group, *[np.nan] * (lengths.max() - len(group))] for group in groups])
    drawn = random.integers(len(groups), size=(_RESAMPLES, len(groups), 1))
    within = (random.random((_RESAMPLES, len(groups), lengths.max())) * lengths[drawn]).astype(int)
    return np.asarray(np.median(padded[drawn, within].reshape(_RESAMPLES, -1), axis=1))


def operations_per_second(cell: Json, counted: str = "flops_per_sample") -> float | None:
    """Return a cell's floating-point operations per second at its median time; None if they are not counted.

    Args:
      cell: a measured step or sampling.
      counted: ``flops_per_sample`` (required by the model) or ``hardware_flops_per_sample`` (computed).
    """
    of_one, examples = cell["values"].get(counted), cell["values"].get("batch")
    if not of_one or not examples or not cell["samples"]:
        return None
    return float(of_one * examples / median([sample["wall_s"] for sample in cell["samples"]]))


def ceiling(cell: Json, result: Json) -> float | None:
    """Return the operations per second of the run's measured matrix product, for a cell's dtype and device count."""
    measured = (result["ceilings"]["matmul_tflops"] or {}).get(cell["options"].get("dtype"))
    # Devices emulated on one CPU do no more than the CPU.
    count = (cell["options"].get("devices") or 1) if result["environment"]["accelerators"] else 1
    return measured * 1e12 * count if measured else None
