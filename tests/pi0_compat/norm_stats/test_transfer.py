"""Norm stats brought into the other's terms normalize every number as before, or the dimension is named."""

from pathlib import Path

import numpy as np
import pytest

from pi0_compat.errors import LoadError
from pi0_compat.norm_stats.lerobot_files import Feature, Normalizer, Processors
from pi0_compat.norm_stats.stats import Stats
from pi0_compat.norm_stats.transfer import from_lerobot, lerobot_mode, to_lerobot
from tests.pi0_compat.norm_stats import formulas

FAMILIES = ("pi0", "pi05", "pi0_fast")
MODES = ("MEAN_STD", "QUANTILES", "MIN_MAX", "QUANTILE10")
FEATURES = {"observation.state": Feature("STATE", (4,)), "action": Feature("ACTION", (4,))}


def some_stats(seed: int, size: int = 4) -> Stats:
    """Return float32 statistics of a few normal dimensions, at several scales."""
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(size=size), 10.0 ** rng.uniform(-2, 1, size), (1000, size)).astype(np.float32)
    levels = {"q01": 0.01, "q10": 0.1, "q90": 0.9, "q99": 0.99}
    bounds = {"mean": x.mean(0), "std": x.std(0), "min": x.min(0), "max": x.max(0)}
    return Stats.of(bounds | {name: np.quantile(x, level, axis=0).astype(np.float32) for name, level in levels.items()})


def step(mode: str, stats: dict[str, Stats], eps: float = 1e-8) -> Normalizer:
    modes = {"STATE": mode, "ACTION": mode, "VISUAL": "IDENTITY"}
    return Normalizer(Path("pipeline.json"), Path("state"), eps, modes, FEATURES, stats)


@pytest.mark.parametrize("family", FAMILIES)
def test_openpi_in_lerobots_terms(family: str) -> None:
    """lerobot normalizes and denormalizes as openpi did, within float32."""
    stats = {"state": some_stats(1), "actions": some_stats(2)}
    found, notes = to_lerobot(stats, family)
    assert not notes
    x, mode = np.random.default_rng(3).normal(size=(50, 4)), lerobot_mode(family)
    for name, feature in (("state", "observation.state"), ("actions", "action")):
        expected = formulas.openpi(x, stats[name], family)
        np.testing.assert_allclose(formulas.lerobot(x, found[feature], mode), expected, rtol=1e-5, atol=1e-5)
        back = formulas.openpi_back(x, stats[name], family)
        np.testing.assert_allclose(formulas.lerobot_back(x, found[feature], mode), back, rtol=1e-5, atol=1e-5)


def test_the_epsilon_is_in_the_statistics() -> None:
    """A narrow dimension, whose scale is mostly epsilon, keeps its scale both ways."""
    narrow = Stats(mean=np.zeros(1), std=np.full(1, 1e-7), q01=np.zeros(1), q99=np.full(1, 1e-7))
    for family in FAMILIES:
        found, notes = to_lerobot({"actions": narrow}, family)
        assert not notes
        got = formulas.lerobot_back(np.ones((1, 1)), found["action"], lerobot_mode(family))
        np.testing.assert_allclose(got, formulas.openpi_back(np.ones((1, 1)), narrow, family), rtol=1e-6)


def test_what_float32_cannot_hold_is_named() -> None:
    """A constant at 20 has no room for openpi's epsilon in float32; other dimensions are not named."""
    stats = Stats(mean=np.array([0, 20.0]), std=np.ones(2), q01=np.array([-1, 20.0]), q99=np.array([1, 20.0]))
    assert to_lerobot({"state": stats}, "pi0").notes == ()
    (note,) = to_lerobot({"state": stats}, "pi05").notes
    assert note == "state dimension 1: float32 rounds q01 or q99 by a millionth or more"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
def test_lerobot_in_openpis_terms(mode: str, family: str) -> None:
    """openpi normalizes and denormalizes as lerobot did, in whichever mode that was."""
    stats = {"observation.state": some_stats(1), "action": some_stats(2)}
    found, notes = from_lerobot(Processors(step(mode, stats), step(mode, stats)), family)
    x = np.random.default_rng(3).normal(size=(50, 4))
    for name, feature in (("state", "observation.state"), ("actions", "action")):
        expected = formulas.lerobot(x, stats[feature], mode)
        np.testing.assert_allclose(formulas.openpi(x, found[name], family), expected, rtol=1e-4, atol=1e-5)
        back = formulas.lerobot_back(x, stats[feature], mode)
        np.testing.assert_allclose(formulas.openpi_back(x, found[name], family), back, rtol=1e-4, atol=1e-5)
    named = [note for note in notes if f"lerobot has {mode}" in note]
    assert len(named) == (0 if mode == lerobot_mode(family) else 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back(family: str) -> None:
    """lerobot's statistics come back bit for bit from openpi's terms."""
    stats = {"observation.state": some_stats(1), "action": some_stats(2)}
    mode = lerobot_mode(family)
    found, _ = from_lerobot(Processors(step(mode, stats), step(mode, stats)), family)
    again, notes = to_lerobot(found, family)
    assert not notes
    for feature, one in again.items():
        for name in ("mean", "std", "q01", "q99"):
            want = getattr(stats[feature], name)
            if (family == "pi0" and feature != "action" and name == "std") or (family != "pi0" and name == "q99"):
                # lerobot's own epsilon goes along, or the float32 of a difference.
                np.testing.assert_allclose(getattr(one, name), want, rtol=2e-6)
            else:
                assert getattr(one, name).tobytes() == want.tobytes(), (feature, name)


def test_a_feature_without_statistics_passes_unchanged() -> None:
    """What lerobot passes silently is said, and openpi passes it as well."""
    only = {"action": some_stats(1)}
    for family in FAMILIES:
        mode = lerobot_mode(family)
        found, notes = from_lerobot(Processors(step(mode, only), step(mode, only)), family)
        x = np.random.default_rng(3).normal(size=(5, 4))
        np.testing.assert_allclose(formulas.openpi(x, found["state"], family), x, atol=1e-12)
        assert any(note.startswith("state: lerobot has no statistics and passes it unchanged") for note in notes)


def test_without_any_statistics() -> None:
    """A base policy has none, and none are made up."""
    assert from_lerobot(Processors(step("QUANTILES", {}), step("QUANTILES", {})), "pi05") == ({}, ())
    assert from_lerobot(Processors(None, None), "pi05") == ({}, ())


def test_a_constant_dimension_is_named() -> None:
    """lerobot divides a constant by 1e-8, openpi by 1e-6."""
    stats = {name: Stats.of({"q01": [0, 1, 2, 3], "q99": [1, 1, 3, 4]}) for name in FEATURES}
    found, notes = from_lerobot(Processors(step("QUANTILES", stats), step("QUANTILES", stats)), "pi05")
    assert [note.partition(":")[0] for note in notes] == ["state dimension 1", "actions dimension 1"]
    assert (found["state"]["q99"] >= found["state"]["q01"]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modes": {"VISUAL": "MEAN_STD"}}, r"observation.images.base \(VISUAL\) is normalized by MEAN_STD"),
        ({"modes": {"ACTION": "QUANTILE50"}}, "the mode of action is 'QUANTILE50'"),
        ({"modes": {"ACTION": "MIN_MAX"}}, "MIN_MAX of action needs min"),
    ],
)
def test_what_openpi_has_no_place_for(change: dict, words: str) -> None:
    """Normalized images and unknown modes are rejected."""
    picture = Stats.of({"mean": [0, 0, 0], "std": [1, 1, 1]})
    some = {"q01": [0, 1, 2, 3], "q99": [1, 2, 3, 4]}
    stats = {"observation.images.base": picture, "observation.state": Stats.of(some), "action": Stats.of(some)}
    features = {**FEATURES, "observation.images.base": Feature("VISUAL", (3, 8, 8))}
    plain = step("QUANTILES", stats)._replace(features=features)
    changed = plain._replace(modes={**plain.modes, **change["modes"]})
    with pytest.raises(LoadError, match=words):
        from_lerobot(Processors(changed, None), "pi05")


def test_actions_have_one_set_of_statistics() -> None:
    """A policy that denormalizes otherwise than it normalizes does not fit openpi."""
    one, other = some_stats(1), some_stats(2)
    before, after = (step("MEAN_STD", {"observation.state": one, "action": action}) for action in (one, other))
    with pytest.raises(LoadError, match=r"denormalized by other statistics .* dimensions 0, 1, 2, 3"):
        from_lerobot(Processors(before, after), "pi0")
