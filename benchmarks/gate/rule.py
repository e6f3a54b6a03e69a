"""Decide from paired samples whether something became slower or larger: an exact sign test on their ratios.

The noise of shared machines is heavy-tailed and bursty: it moves means and minima, but not the median of paired
ratios. The test only assumes that the two sides of a pair are exchangeable.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

# Candidate over baseline, one per pair.
Ratios: TypeAlias = Sequence[float] | np.ndarray
Decision = Literal["regressed", "improved", "same", "undecided"]
# Error probability per side, for each of up to four looks.
_ALPHA = 0.0025


class Rule(NamedTuple):
    """Thresholds of a change, as a share of the baseline.

    Attributes:
      floor: a regression needs an interval entirely above this growth,
      least: and a median above this growth;
      clear: the metric is the same if the interval is entirely below this growth.
    """

    floor: float
    least: float
    clear: float


# The first for CPU time and peak memory; the second for wall time, which depends on other load.
STEADY = Rule(0.03, 0.05, 0.10)
NOISY = Rule(0.10, 0.15, 0.25)


class Estimate(NamedTuple):
    """The median ratio of candidate to baseline and its confidence interval."""

    ratio: float
    low: float
    high: float


def estimate(ratios: Ratios) -> Estimate:
    """Return the median of paired ratios with its 99.5 % interval, from order statistics."""
    # Only here: most runs of the gate end with the counts, before anything is timed.
    from scipy import stats

    interval = stats.quantile_test(ratios, p=0.5).confidence_interval(1 - 2 * _ALPHA)
    low, high = (
        float(x) if math.isfinite(x) else default for x, default in ((interval.low, 0.0), (interval.high, math.inf))
    )
    return Estimate(float(np.median(ratios)), low, high)


def decide(ratios: Ratios, rule: Rule) -> Decision:
    """Decide from the pairs of samples so far.

    Growth is tested first, so that larger growth never turns a regression into something else.

    Args:
      ratios: candidate over baseline, one per pair.
      rule: the thresholds of a change.
    """
    ratio, low, high = estimate(ratios)
    if low > 1 + rule.floor and ratio > 1 + rule.least:
        return "regressed"
    if high < 1 / (1 + rule.floor) and ratio < 1 / (1 + rule.least):
        return "improved"
    return "same" if high < 1 + rule.clear else "undecided"
