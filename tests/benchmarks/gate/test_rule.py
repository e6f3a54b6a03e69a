"""The gate's statistics: how often noise fails a loader, and how often a slower one passes."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gate.rule import NOISY, STEADY, Decision, decide, estimate

_RUNS = 400
# At most four batches of ten, as the gate measures them.
_LOOKS = (10, 20, 30, 40)
_WORSE = {"same": 0, "improved": 0, "undecided": 1, "regressed": 2}


def _sequential(ratios: np.ndarray) -> Decision:
    """Return the gate's final decision on pairs that arrive one after another."""
    decisions = (decide(ratios[:look], STEADY) for look in _LOOKS)
    return next((decision for decision in decisions if decision != "undecided"), "undecided")


def _noise(seed: int, scale: float) -> np.ndarray:
    """Return log-ratios of runs of forty pairs: Student's t with three degrees of freedom, so with far outliers."""
    return scale * np.random.default_rng(seed).standard_t(3, size=(_RUNS, _LOOKS[-1]))


@pytest.mark.parametrize("scale", [0.01, 0.04, 0.10], ids=["quiet", "shared", "overloaded"])
def test_unchanged_loaders_pass(scale: float) -> None:
    failed = [_sequential(np.exp(logs)) == "regressed" for logs in _noise(1, scale)]
    assert np.mean(failed) < 0.01


@pytest.mark.parametrize("scale", [0.01, 0.04], ids=["quiet", "shared"])
def test_slower_loaders_fail(scale: float) -> None:
    failed = [_sequential(1.15 * np.exp(logs)) == "regressed" for logs in _noise(2, scale)]
    assert np.mean(failed) > 0.95


def test_faster_loaders_are_improved() -> None:
    improved = [_sequential(np.exp(logs) / 1.15) == "improved" for logs in _noise(3, 0.02)]
    assert np.mean(improved) > 0.9


@given(st.integers(0, 2**32 - 1), st.sampled_from(_LOOKS), st.floats(0, 1))
def test_more_of_a_slowdown_never_helps(seed: int, pairs: int, slowdown: float) -> None:
    ratios = np.exp(0.05 * np.random.default_rng(seed).standard_t(3, size=pairs))
    for rule in (STEADY, NOISY):
        assert _WORSE[decide((1 + slowdown) * ratios, rule)] >= _WORSE[decide(ratios, rule)]


def test_more_of_a_slowdown_never_ends_a_failing_run_as_a_pass() -> None:
    for logs in 0.10 + _noise(4, 0.05)[:100]:
        decisions = [_sequential(np.exp(logs + more)) for more in (0.0, 0.03, 0.10)]
        assert all(_WORSE[late] >= _WORSE[early] for early, late in itertools.pairwise(decisions))


def test_interval_is_that_of_the_sign_test() -> None:
    # Extremes of ten pairs: all lie on one side of the median with probability 1/1024, nine with 11/1024.
    ratios = [1.0 + n / 100 for n in range(10)]
    assert tuple(estimate(ratios)) == pytest.approx((1.045, 1.0, 1.09))


def test_few_pairs_decide_nothing() -> None:
    assert estimate([2.0] * 3) == (2.0, 0.0, math.inf)
    assert decide([2.0] * 3, STEADY) == "undecided"
