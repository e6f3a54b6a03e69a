"""Statistics of data have no flaws, whatever the data; those that cannot be right are named with their dimensions."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_compat.norm_stats.compute import compute_norm_stats
from pi0_compat.norm_stats.flaws import flaws_of
from pi0_compat.norm_stats.stats import Stats


def good(size: int = 4, **changes: object) -> Stats:
    """Return statistics of normal data, openpi's four, with some of them replaced."""
    values = {"mean": 0.0, "std": 1.0, "q01": -2.3, "q99": 2.3}
    vectors = {name: np.full(size, value) for name, value in values.items()}
    return Stats.of(vectors | changes)


WIDE = {"min": [-3.0] * 4, "max": [3.0] * 4}


def flaws(stats: Stats, family: str | None = None, action_dim: int | None = None) -> list[tuple[str, bool]]:
    """Return what is said about an array of actions."""
    found = flaws_of({"state": good(), "actions": stats}, family, action_dim)
    assert all(flaw.array == "actions" for flaw in found)
    return [(flaw.words, flaw.is_wrong) for flaw in found]


@pytest.mark.parametrize("family", ["pi0", "pi05", "pi0_fast", None])
def test_good_ones(family: str | None) -> None:
    """Nothing is said about statistics of normal data."""
    assert flaws(good(), family, 4) == []


def drawn(seed: int, kind: str) -> np.ndarray:
    """Return data of a kind: heavy tails, few values, rare events, one outlier, a large mean."""
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(2, 2000))
    match kind:
        case "normal":
            x = rng.normal(rng.normal() * 1e3, 10.0 ** rng.uniform(-3, 3), rows)
        case "cauchy":
            x = rng.standard_cauchy(rows)
        case "grippers":
            x = rng.choice([0.0, 1.0], rows, p=[0.995, 0.005])
        case "outlier":
            x = np.append(rng.normal(size=rows), 10.0 ** rng.uniform(0, 8))
        case "exponential":
            x = -(rng.exponential(size=rows) ** 3)
        case _:
            x = np.full(rows, rng.normal() * 1e4)
    return x.reshape(-1, 1).astype(np.float32 if rng.integers(2) else np.float64)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["normal", "cauchy", "grippers", "outlier", "exponential", "constant"]),
    whole=st.booleans(),
)
def test_exact_statistics_never_contradict_themselves(seed: int, kind: str, whole: bool) -> None:
    """Whatever the data, no inequality is violated; but quantiles may be equal though values vary."""
    exact = compute_norm_stats(drawn(seed, kind))
    stats = exact if whole else dataclasses.replace(exact, min=None, max=None)
    found = flaws_of({"state": stats, "actions": stats})
    assert [flaw for flaw in found if flaw.is_wrong and "q01 is q99" not in flaw.words] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean": [0, np.nan, 0, 0]}, "mean of dimension 1 is not a finite number"),
        ({"std": [1, 1, 1, np.inf]}, "std of dimension 3 is not a finite number"),
        ({"std": [1.0] * 3}, "sizes differ: mean 4, std 3, q01 4, q99 4"),
        ({"std": [-1, 1, 1, -1]}, "std is negative in dimensions 0, 3"),
        ({"q01": [-2, 3, -2, -2]}, "q01 is above q99 in dimension 1"),
        ({"std": [1, 0, 1, 1]}, "std is 0, but q01 and q99 differ in dimension 1"),
        ({"q01": [-2, 1, -2, -2], "q99": [2, 1, 2, 2]}, "q01 is q99, but std is not 0 in dimension 1"),
        ({"mean": [0, 0, 9, 0]}, "the mean is above q99 in dimension 2"),
        ({"mean": [0, 0, -9, 0]}, "the mean is below q01 in dimension 2"),
        ({"std": [1, 0.1, 1, 1]}, "q01 is further from the mean than 9.9 std in dimension 1"),
    ],
)
def test_what_cannot_be(changes: dict, words: str) -> None:
    """Each contradiction is named once, with its dimensions, and is wrong."""
    assert flaws(good(**changes)) == [(words, True)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min": [0.0] * 4, "max": [3.0] * 4}, "min is above q01 in dimensions 0, 1, 2, 3"),
        ({"min": [-3.0] * 4, "max": [3, 2, 3, 3]}, "q99 is above max in dimension 1"),
        (
            {"std": [4, 1, 1, 1], "min": [-3.0] * 4, "max": [3.0] * 4},
            "std is more than half of max - min in dimension 0",
        ),
        (
            {"std": [1, 0, 1, 1], "q01": None, "q99": None, "min": [-3.0] * 4, "max": [3.0] * 4},
            "std is 0, but min and max",
        ),
    ],
)
def test_what_cannot_be_between_min_and_max(changes: dict, words: str) -> None:
    """lerobot's statistics have min and max, which tell more."""
    kept = {name: values for name, values in changes.items() if values is not None}
    stats = dataclasses.replace(good(**kept), **{name: None for name, values in changes.items() if values is None})
    ((found, is_wrong),) = flaws(stats, "pi0")
    assert found.startswith(words)
    assert is_wrong is not ("q01" in words or "q99" in words)


def episodes(kind: str) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    if kind == "two":
        return [rng.normal(0, 1, (500, 1)), rng.normal(10, 1, (500, 1))]
    if kind == "fifty":
        return [rng.normal(mean, 0.2, (100, 1)) for mean in np.linspace(-3, 3, 50)]
    return [np.full((100, 1), float(number % 10 == 0)) for number in range(50)]


@pytest.mark.parametrize("kind", ["two", "fifty", "gripper"])
def test_averaged_quantiles_are_flagged(kind: str) -> None:
    """lerobot averages the quantiles of episodes; with min and max that is seen, and the exact ones have no flaw."""
    parts = episodes(kind)
    exact = compute_norm_stats(np.concatenate(parts))
    averaged = {name: np.mean([compute_norm_stats(part)[name] for part in parts], axis=0) for name in ("q01", "q99")}
    assert [words for words, _ in flaws(exact, "pi05")] == []
    ((words, is_wrong),) = flaws(dataclasses.replace(exact, **averaged), "pi05")
    assert is_wrong
    assert words.startswith(("q01 and q99 are too close together for std, as averages", "q01 is q99, but std is not 0"))


def test_what_is_only_unusual() -> None:
    """A constant is not wrong, nor are quantiles that are close for the std where min and max are unknown."""
    constant = good(std=[1, 0, 1, 1], mean=[0, 5, 0, 0], q01=[-2, 5, -2, -2], q99=[2, 5, 2, 2])
    assert flaws(constant) == [("dimension 1 is constant: any other value is multiplied by 1e+06", False)]
    ((words, is_wrong),) = flaws(good(std=[50, 1, 1, 1]), "pi05")
    assert words.startswith("dimension 0: std is large for q01 and q99")
    assert not is_wrong


def test_what_the_family_does_not_use_is_only_unusual() -> None:
    """A std of 0 is wrong for pi0 and not used by pi0.5; quantiles the other way round."""
    integer, averaged = good(std=[0.0] * 4), good(q01=[3.0] * 4)
    assert [is_wrong for _, is_wrong in flaws(integer, "pi0")] == [True]
    assert [is_wrong for words, is_wrong in flaws(integer, "pi05") if "std is 0" in words] == [False]
    assert [is_wrong for _, is_wrong in flaws(averaged, "pi05")] == [True]
    assert [is_wrong for _, is_wrong in flaws(averaged, "pi0")] == [False]


def test_what_the_family_needs() -> None:
    """pi0.5 and pi0-FAST need quantiles, pi0 does not; no array is longer than the model's actions."""
    plain = dataclasses.replace(good(), q01=None, q99=None)
    assert flaws(plain, "pi0", 4) == []
    for family in ("pi05", "pi0_fast"):
        assert flaws(plain, family) == [("has no q01 and q99, by which a policy of its kind normalizes", True)]
    assert flaws(good(8), "pi0", 7) == [("has 8 dimensions, the model 7", True)]


def test_arrays() -> None:
    """State and actions are needed, and openpi fails on any other."""
    assert [str(flaw) for flaw in flaws_of({"state": good()}, "pi0")] == [
        "actions: not there, so nothing of it is normalized"
    ]
    found = flaws_of({"state": good(), "actions": good(), "wrist": good()}, "pi0")
    assert [(flaw.array, flaw.is_wrong) for flaw in found] == [("wrist", True)]
