"""Numbers that stand for samples: median, range, ratio of two subjects, operations a second."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Json = Mapping[str, Any]

# Below this many samples, the 5th percentile is little else than the smallest one.
_ENOUGH_FOR_PERCENTILES = 20
_RESAMPLES = 4000
_SEED = 20261122


class Range(NamedTuple):
    """Where samples lie.

    Attributes:
      low: 5th percentile, or minimum.
      high: 95th percentile, or maximum.
      kind: ``p5..p95``, or ``min..max`` of fewer than twenty samples.
    """

    low: float
    high: float
    kind: str


class Ratio(NamedTuple):
    """How many times longer something takes than something else.

    Attributes:
      low: the lower end of the 95 % interval.
      value: the ratio of the medians.
      high: the upper end.
    """

    low: float
    value: float
    high: float


def median(values: Sequence[float]) -> float:
    """The median; of an even number, the mean of the two in the middle."""
    return float(np.median(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """A percentile, linear between neighbours."""
    return float(np.percentile(values, percent))


def spread(values: Sequence[float]) -> Range:
    """Where samples lie, the outermost tenth left out if there are enough."""
    if len(values) < _ENOUGH_FOR_PERCENTILES:
        return Range(min(values), max(values), "min..max")
    return Range(percentile(values, 5), percentile(values, 95), "p5..p95")


def by_process(cell: Json, name: str = "wall_s") -> list[list[float]]:
    """A number of each sample, the samples of a process together."""
    processes = sorted({sample["process"] for sample in cell["samples"]})
    return [[x[name] for x in cell["samples"] if x["process"] == process] for process in processes]


def ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> Ratio:
    """``theirs`` over ``ours``, medians of all samples, with a bootstrap interval of 95 %.

    Processes are drawn, then samples within each: the steps of one process are more alike than those of several. With
    three processes the interval is rough.

    Args:
      ours: samples by process.
      theirs: the same.
    """
    random = np.random.default_rng(_SEED)
    low, high = np.percentile(_resampled(theirs, random) / _resampled(ours, random), [2.5, 97.5])
    return Ratio(float(low), _middle(theirs) / _middle(ours), float(high))


def _middle(groups: Sequence[Sequence[float]]) -> float:
    return median([value for group in groups for value in group])


def _resampled(groups: Sequence[Sequence[float]], random: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Medians of resamples; each process that is drawn gives as many samples as the longest has."""
    lengths = np.array([len(group) for group in groups])
    padded = np.array([[*group, *[np.nan] * (lengths.max() - len(group))] for group in groups])
    drawn = random.integers(len(groups), size=(_RESAMPLES, len(groups), 1))
    within = (random.random((_RESAMPLES, len(groups), lengths.max())) * lengths[drawn]).astype(int)
    return np.asarray(np.median(padded[drawn, within].reshape(_RESAMPLES, -1), axis=1))


def operations_per_second(cell: Json, counted: str = "flops_per_sample") -> float | None:
    """Floating point operations a second at the median of a measured cell; None if they are not counted.

    Args:
      cell: of a step or a sampling.
      counted: ``flops_per_sample``, what the model asks for, or ``hardware_flops_per_sample``, what is computed.
    """
    of_one, examples = cell["values"].get(counted), cell["values"].get("batch")
    if not of_one or not examples or not cell["samples"]:
        return None
    return float(of_one * examples / median([sample["wall_s"] for sample in cell["samples"]]))


def ceiling(cell: Json, result: Json) -> float | None:
    """Operations a second of the matrix product that was measured in this run, of a cell's dtype, on its devices."""
    measured = (result["ceilings"]["matmul_tflops"] or {}).get(cell["options"].get("dtype"))
    # Devices that are made of one CPU do no more than the CPU.
    count = (cell["options"].get("devices") or 1) if result["environment"]["accelerators"] else 1
    return measured * 1e12 * count if measured else None
