"""Compare the norm stats of two checkpoints: how far apart a value comes out that both normalize."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pi0_compat.norm_stats.found import Found
from pi0_compat.norm_stats.stats import OPENPI_EPS, Stats


class StatsApart(NamedTuple):
    """A statistic that two checkpoints do not share.

    Attributes:
      name: the asset id and the statistic: ``droid state.q99``.
      relative: the largest difference, in units of the spread: std, or half the distance of q01 and q99; infinite where
        one side alone has it, in another size, or not finite.
      words: what differs, in words.
    """

    name: str
    relative: float
    words: str


def stats_apart(left: Sequence[Found], right: Sequence[Found]) -> list[StatsApart]:
    """Return every statistic that differs between files of the same name, the furthest apart first.

    Two checkpoints with one file each are compared whatever their asset ids. What only one side has at all is left out.
    """
    ours, theirs = ({one.name: one for one in side} for side in (left, right))
    if len(ours) == 1 and len(theirs) == 1:
        theirs = dict(zip(ours, theirs.values(), strict=True))
    apart = [line for name in ours if name in theirs for line in _of_files(name, ours[name], theirs[name])]
    return sorted(apart, key=lambda one: -one.relative)


def _of_files(name: str, left: Found, right: Found) -> Iterator[StatsApart]:
    for side, other, letter in ((left, right, "A"), (right, left, "B")):
        if side.problem and not other.problem:
            yield StatsApart(name, np.inf, f"cannot be read in {letter}: {side.problem}")
    if left.problem or right.problem:
        return
    for array in sorted(left.stats.keys() | right.stats.keys()):
        yield from _of_arrays(f"{name} {array}", left.stats.get(array, Stats()), right.stats.get(array, Stats()))
        if left.modes.get(array) != right.modes.get(array):
            modes = f"{left.modes.get(array)} in A, {right.modes.get(array)} in B"
            yield StatsApart(f"{name} {array}", np.inf, f"normalized by {modes}")


def _of_arrays(name: str, left: Stats, right: Stats) -> Iterator[StatsApart]:
    ours, theirs = dict(left.known()), dict(right.known())
    for statistic in sorted(ours.keys() | theirs.keys()):
        label = f"{name}.{statistic}"
        if statistic not in ours or statistic not in theirs:
            yield StatsApart(label, np.inf, f"only in {'A' if statistic in ours else 'B'}")
        elif ours[statistic].shape != theirs[statistic].shape:
            sizes = f"{ours[statistic].size} dimensions in A, {theirs[statistic].size} in B"
            yield StatsApart(label, np.inf, sizes)
        elif ours[statistic].tobytes() != theirs[statistic].tobytes():
            yield _of_vectors(label, ours[statistic], theirs[statistic], _spread(left))


def _of_vectors(label: str, left: np.ndarray, right: np.ndarray, spread: np.ndarray) -> StatsApart:
    with np.errstate(invalid="ignore"):
        apart = np.abs(left - right) / (spread if spread.shape == left.shape else 1)
    apart = np.where(np.isnan(apart), np.inf, apart)
    worst = int(np.argmax(apart))
    count = np.count_nonzero(left != right)
    words = f"{left[worst]:g} in A, {right[worst]:g} in B at dimension {worst}"
    return StatsApart(label, float(apart[worst]), f"{words}; {count} of {left.size} dimensions differ")


def _spread(stats: Stats) -> np.ndarray:
    """Return the scale of an array's values, by the first way of normalizing that is known."""
    if stats.has("std"):
        return np.abs(stats["std"]) + OPENPI_EPS
    if stats.has("q01", "q99"):
        return np.abs(stats["q99"] - stats["q01"]) / 2 + OPENPI_EPS
    return np.ones(1)
