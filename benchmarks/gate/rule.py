"""When paired samples say that something became slower or hungrier: an exact sign test on their ratios.

The noise of shared machines is heavy-tailed and comes in bursts: means and minima follow it, the median of paired
ratios does not, and all that the test needs is that the two sides of a pair may be swapped.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from scipy import stats

# Of candidate to baseline, one a pair.
Ratios: TypeAlias = Sequence[float] | np.ndarray
Decision = Literal["regressed", "improved", "same", "undecided"]
# Of each of up to four looks, on either side.
_ALPHA = 0.0025


class Rule(NamedTuple):
    """How large a change has to be, as a share of the baseline.

    Attributes:
      floor: it regressed only if it certainly grew by more than this,
      least: and by more than this in the median;
      clear: it is the same if it certainly did not grow by this much.
    """

    floor: float
    least: float
    clear: float


# CPU time and peak memory; wall time, which others on the machine share.
STEADY = Rule(0.03, 0.05, 0.10)
NOISY = Rule(0.10, 0.15, 0.25)


class Estimate(NamedTuple):
    """The median ratio of candidate to baseline, and the interval that it certainly lies in."""

    ratio: float
    low: float
    high: float


def estimate(ratios: Ratios) -> Estimate:
    """The median of paired ratios with its 99.5 % interval, from order statistics."""
    found = stats.quantile_test(ratios, p=0.5).confidence_interval(1 - 2 * _ALPHA)
    low, high = (float(x) if math.isfinite(x) else default for x, default in ((found.low, 0.0), (found.high, math.inf)))
    return Estimate(float(np.median(ratios)), low, high)


def decide(ratios: Ratios, rule: Rule) -> Decision:
    """What pairs of samples show so far.

    Growth is looked at first, so a larger one never turns a regression into anything else.

    Args:
      ratios: of candidate to baseline, one a pair.
      rule: how large a change has to be.
    """
    ratio, low, high = estimate(ratios)
    if low > 1 + rule.floor and ratio > 1 + rule.least:
        return "regressed"
    if high < 1 / (1 + rule.floor) and ratio < 1 / (1 + rule.least):
        return "improved"
    return "same" if high < 1 + rule.clear else "undecided"
