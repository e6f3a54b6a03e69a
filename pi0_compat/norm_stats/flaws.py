"""Say what is wrong with norm stats: what openpi refuses, what cannot be, and what is unusual.

Statistics of any data obey inequalities; those that do not were computed wrong, or are not of the same data. openpi's
standard deviation is 0 for integers and at large means, where squares wrap or cancel; lerobot averages the quantiles of
episodes, which are then too close together (docs/norm_stats.md). Quantiles may be a histogram's, off by a few bins.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pi0_compat.norm_stats.stats import ACTIONS, OPENPI_EPS, STATE, NormStats, Stats
from pi0_compat.norm_stats.transfer import dimensions, statistics_of

# A hundredth of all values lies beyond a quantile. By Cantelli's inequality it is at most this many standard deviations
# from the mean on its side, and on the other side at most the inverse of that.
_FAR = math.sqrt(99)
# Histograms of 5000 bins, whose edges move while they are filled: relative to the range.
_BINS = 2e-3
# How far outliers lie, in ranges between the quantiles, before someone should look.
_OUTLIERS = 5


class Flaw(NamedTuple):
    """What is wrong, or unusual, with the statistics of one array.

    Attributes:
      array: state, actions, or what else is in the file.
      words: what it is.
      is_wrong: whether a policy cannot normalize by them, or they cannot be right; else they are only unusual.
    """

    array: str
    words: str
    is_wrong: bool

    def __str__(self) -> str:
        return f"{self.array}: {self.words}"


def flaws_of(stats: NormStats, family: str | None = None, action_dim: int | None = None) -> list[Flaw]:
    """Return what is wrong with openpi's norm stats; the wrong ones first.

    Args:
      stats: by ``state`` and ``actions``.
      family: pi0, pi05 or pi0_fast, which decides what is used; None judges both ways of normalizing.
      action_dim: of the model, which no vector may exceed.
    """
    used = statistics_of(family) if family else None
    flaws = [Flaw(name, "not there, so nothing of it is normalized", True) for name in _lacking(stats)]
    flaws += [
        Flaw(name, "openpi has no such array, and fails when it looks for it in a policy's output", True)
        for name in stats
        if name not in (STATE, ACTIONS)
    ]
    for name, one in stats.items():
        flaws += flaws_in(name, one, used, action_dim)
    return sorted(flaws, key=lambda flaw: not flaw.is_wrong)


def _lacking(stats: NormStats) -> list[str]:
    return [name for name in (STATE, ACTIONS) if name not in stats]


def flaws_in(
    name: str, stats: Stats, used: tuple[str, ...] | None = None, action_dim: int | None = None
) -> Iterator[Flaw]:
    """Yield what is wrong with the statistics of one array.

    Args:
      name: of the array.
      stats: its statistics.
      used: the statistics that a policy normalizes it by; None judges all of them.
      action_dim: of the model.
    """
    if lacking := [key for key in used or () if not stats.has(key)]:
        yield Flaw(name, f"has no {' and '.join(lacking)}, by which a policy of its kind normalizes", True)
    sizes = stats.sizes
    if len(set(sizes.values())) > 1:
        yield Flaw(name, f"sizes differ: {', '.join(f'{key} {size}' for key, size in sizes.items())}", True)
        return
    if action_dim is not None and stats.size > action_dim:
        yield Flaw(name, f"has {stats.size} dimensions, the model {action_dim}", True)
    wild = {key: ~np.isfinite(x) for key, x in stats.known()}
    for key, marked in wild.items():
        if marked.any():
            yield Flaw(name, f"{key} of {dimensions(marked)} is not a finite number", True)
    if not any(marked.any() for marked in wild.values()):
        seen = np.zeros(stats.size, bool)
        for needed, words, marked in _contradictions(stats):
            if (fresh := marked & ~seen).any():
                matters = used is None or bool(set(needed) & set(used))
                yield Flaw(name, f"{words} in {dimensions(fresh)}", matters)
                seen |= fresh
        yield from (Flaw(name, words, False) for words in _oddities(stats, used, ~seen))


_Contradiction = tuple[tuple[str, ...], str, np.ndarray]


def _contradictions(stats: Stats) -> Iterator[_Contradiction]:
    """Yield what cannot be of any data: the statistics at fault, words, and the dimensions."""
    yield from _of_order(stats)
    yield from _of_spread(stats)
    yield from _of_mean(stats)


def _of_order(stats: Stats) -> Iterator[_Contradiction]:
    if stats.has("std"):
        yield ("std",), "std is negative", stats["std"] < 0
    for low, high in (("q01", "q99"), ("q10", "q90"), ("min", "max")):
        if stats.has(low, high):
            yield (low, high), f"{low} is above {high}", stats[low] > stats[high] + _slack(stats)
    for low, high in (("min", "q01"), ("q99", "max"), ("min", "mean"), ("mean", "max")):
        if stats.has(low, high):
            yield (low, high), f"{low} is above {high}", stats[low] > stats[high] + _slack(stats)


def _of_spread(stats: Stats) -> Iterator[_Contradiction]:
    if not stats.has("std"):
        return
    std, slack = stats["std"], _slack(stats)
    for low, high in (("q01", "q99"), ("min", "max")):
        if stats.has(low, high):
            span = stats[high] - stats[low]
            yield ("std",), f"std is 0, but {low} and {high} differ", (std <= OPENPI_EPS * span) & (span > slack)
    if stats.has("q01", "q99"):
        equal = (stats["q99"] == stats["q01"]) & (std > np.maximum(slack, OPENPI_EPS))
        yield ("q01", "q99"), "q01 is q99, but std is not 0", equal
    if stats.has("min", "max"):
        most = (stats["max"] - stats["min"]) / 2
        yield ("std",), "std is more than half of max - min", std > most + slack
    if stats.has("q01", "q99", "mean", "min", "max"):
        words = "q01 and q99 are too close together for std, as averages of the episodes' quantiles are,"
        yield ("q01", "q99"), words, std > _largest_std(stats) * (1 + _BINS) + slack


def _largest_std(stats: Stats) -> np.ndarray:
    """Return the largest spread of data with these quantiles: 98 % at the further quantile, the rest at the ends."""
    away = {key: np.abs(stats[key] - stats["mean"]) for key in ("q01", "q99", "min", "max")}
    inner = np.maximum(away["q01"], away["q99"])
    outer = np.maximum(away["min"], away["q01"]) ** 2 + np.maximum(away["max"], away["q99"]) ** 2
    return np.sqrt(0.98 * inner**2 + 0.01 * outer)


def _of_mean(stats: Stats) -> Iterator[_Contradiction]:
    if not stats.has("mean", "std", "q01", "q99"):
        return
    mean, std, slack = stats["mean"], stats["std"], _slack(stats)
    far, near = _FAR * std + slack, std / _FAR + slack
    yield ("mean", "q01"), "the mean is below q01", stats["q01"] - mean > near
    yield ("mean", "q99"), "the mean is above q99", mean - stats["q99"] > near
    words = f"{{}} is further from the mean than {_FAR:.1f} std"
    yield ("mean", "std", "q01"), words.format("q01"), mean - stats["q01"] > far
    yield ("mean", "std", "q99"), words.format("q99"), stats["q99"] - mean > far


def _oddities(stats: Stats, used: tuple[str, ...] | None, rest: np.ndarray) -> Iterator[str]:
    """Yield what a policy can live with, but few data have, in the dimensions that no contradiction was found in."""
    flat = np.zeros(stats.size, bool)
    if stats.has("std"):
        flat |= stats["std"] < OPENPI_EPS
    if stats.has("q01", "q99"):
        flat |= stats["q99"] - stats["q01"] < OPENPI_EPS
    if (flat & rest).any():
        yield (
            f"{dimensions(flat & rest)} {'are' if np.count_nonzero(flat & rest) > 1 else 'is'} constant: any other "
            f"value is multiplied by {1 / OPENPI_EPS:.0e}"
        )
    if not stats.has("std", "mean", "q01", "q99") or stats.has("min", "max") or "std" in (used or ()):
        return
    span = stats["q99"] - stats["q01"]
    inner = np.maximum(np.abs(stats["q01"] - stats["mean"]), np.abs(stats["q99"] - stats["mean"]))
    outliers = np.sqrt(np.maximum(stats["std"] ** 2 - 0.98 * inner**2, 0) / 0.02)
    if (wide := (outliers > _OUTLIERS * span) & ~flat & rest).any():
        yield (
            f"{dimensions(wide)}: std is large for q01 and q99: a fiftieth of the values would be {_OUTLIERS} times "
            "their distance away; averages of the episodes' quantiles look like this"
        )


def _slack(stats: Stats) -> np.ndarray:
    """Return by how much statistics of the same data may seem to contradict each other."""
    slack = np.zeros(stats.size)
    for low, high in (("q01", "q99"), ("min", "max")):
        if stats.has(low, high):
            slack = np.maximum(slack, _BINS * np.abs(stats[high] - stats[low]))
    # What float32 rounds of the values themselves.
    largest = np.max([np.abs(values) for _, values in stats.known()], axis=0) if any(stats.known()) else 0
    return slack + np.finfo(np.float32).eps * largest
