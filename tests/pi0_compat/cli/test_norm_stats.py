"""Commands on checkpoints with norm stats: what inspect, check and diff say about them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.specs import tiny
from fixtures.writers import openpi
from pi0_compat.cli import NO, YES
from tests.pi0_compat.cli.checkpoints import config_file

GOOD = {"mean": [0.0] * 7, "std": [1.0] * 7, "q01": [-2.3] * 7, "q99": [2.3] * 7}
PLAIN = {"mean": [0.0] * 7, "std": [1.0] * 7, "q01": None, "q99": None}


def write(step: Path, asset: str, state: dict[str, Any] | str, actions: dict[str, Any] | None = None) -> None:
    """Write the norm stats of an asset id beside a step's parameters, or any text in their place."""
    file = step / "assets" / asset / "norm_stats.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = state if isinstance(state, str) else {"norm_stats": {"state": state, "actions": actions or state}}
    file.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture(name="step")
def pi05_step(tmp_path: Path) -> Path:
    """The folder of a step of a pi0.5, without norm stats."""
    openpi.build(tiny("pi05"), tmp_path / "7" / "params")
    return tmp_path / "7"


def test_inspect_shows_ids_sizes_and_uses(pi0_compat: Callable, step: Path) -> None:
    """Each asset id has a line with its sizes and the normalizations it serves; flaws follow, wrong ones marked."""
    write(step, "droid", GOOD)
    write(step, "robots/arm", PLAIN)
    write(step, "zero", {**GOOD, "std": [0.0] + [1.0] * 6}, GOOD)
    write(step, "html", "<html></html>")
    result = pi0_compat("inspect", step)
    assert result.status == YES
    assert "  norm stats  assets/droid/norm_stats.json: state 7, actions 7; for z-score and quantiles\n" in result.out
    assert "  norm stats  assets/robots/arm/norm_stats.json: state 7, actions 7; for z-score\n" in result.out
    assert "! state: std is 0, but q01 and q99 differ in dimension 0\n" in result.out
    assert "assets/html/norm_stats.json: cannot be read: expected norm stats as JSON, found a web page" in result.out
    shown = {one["name"]: one for one in pi0_compat("inspect", step, "--json").document["norm_stats"]}
    assert shown["droid"]["sizes"] == {"state": 7, "actions": 7}
    assert shown["robots/arm"]["serves"] == ["z-score"]
    assert [flaw["is_wrong"] for flaw in shown["zero"]["flaws"]] == [True]
    assert shown["html"]["problem"].startswith("expected norm stats as JSON")


@pytest.mark.parametrize(
    ("stats", "words"),
    [
        (PLAIN, "! state: has no q01 and q99, by which a policy of its kind normalizes"),
        (
            {**GOOD, "mean": [float("nan")] * 7},
            "! state: mean of dimensions 0, 1, 2, 3, 4, 5, 6 is not a finite number",
        ),
        ({name: [*values, *values] for name, values in GOOD.items()}, "! state: has 14 dimensions, the model 9"),
        ({**GOOD, "q01": [2.3] * 7}, "! state: q01 is q99, but std is not 0 in dimensions 0, 1, 2, 3, 4, 5, 6"),
        ("", "cannot be read: expected norm stats as JSON, found an empty file"),
    ],
)
def test_check_refuses_what_a_policy_cannot_use(
    pi0_compat: Callable, step: Path, tmp_path: Path, stats: dict[str, Any] | str, words: str
) -> None:
    """Norm stats that the family cannot normalize by make a check say no; good ones do not."""
    file = config_file(tiny("pi05"), tmp_path)
    write(step, "droid", GOOD)
    assert pi0_compat("check", step, "--config-file", file).status == YES
    write(step, "droid", stats)
    result = pi0_compat("check", step, "--config-file", file)
    assert (result.status, words in result.out) == (NO, True), result.out


def test_a_constant_is_only_said(pi0_compat: Callable, step: Path, tmp_path: Path) -> None:
    """A dimension that does not move is shown, and the check still says yes."""
    still = {name: [0.0] * 7 for name in GOOD}
    write(step, "droid", still)
    result = pi0_compat("check", step, "--config-file", config_file(tiny("pi05"), tmp_path))
    assert result.status == YES
    assert "    state: dimensions 0, 1, 2, 3, 4, 5, 6 are constant" in result.out


def test_a_config_takes_one_asset_id(pi0_compat: Callable, step: Path) -> None:
    """Of several asset ids only the one that the config takes decides, and a missing one is named."""
    write(step, "droid", GOOD)
    write(step, "trossen", PLAIN)
    shown = pi0_compat("check", step, "--config", "pi05_droid", "--json").document["norm_stats"]
    assert {one["name"]: (one["is_taken"], any(f["is_wrong"] for f in one["flaws"])) for one in shown} == {
        "droid": (True, False),
        "trossen": (False, True),
    }
    assert "trossen/norm_stats.json: state 7, actions 7; for z-score; not for this config" in (
        pi0_compat("check", step, "--config", "pi05_droid").out
    )
    result = pi0_compat("check", step, "--config", "pi05_libero")
    assert "takes the asset id physical-intelligence/libero, which is not among droid, trossen" in result.out


def test_diff_compares_norm_stats(pi0_compat: Callable, step: Path, tmp_path: Path) -> None:
    """Equal parameters with other norm stats differ, in units of the spread; a tolerance counts for both."""
    other = tmp_path / "8"
    shutil.copytree(step, other)
    write(step, "droid", GOOD)
    result = pi0_compat("diff", step, other)
    assert (result.status, "norm stats" in result.out) == (YES, False)
    write(other, "mine", GOOD)
    assert pi0_compat("diff", step, other).status == YES
    write(other, "mine", GOOD, {**GOOD, "q99": [2.3] * 6 + [2.8]})
    result = pi0_compat("diff", step, other)
    assert result.status == NO
    assert "droid actions.q99: 2.3 in A, 2.8 in B at dimension 6; 1 of 7 dimensions differ" in result.out
    (found,) = pi0_compat("diff", step, other, "--json").document["norm_stats"]
    assert found["relative"] == pytest.approx(0.5, rel=1e-5)
    assert pi0_compat("diff", step, other, "--tolerance", "0.6").status == YES
    write(other, "mine", PLAIN)
    result = pi0_compat("diff", step, other, "--tolerance", "9")
    assert (result.status, "droid state.q01: only in A" in result.out) == (NO, True)


def test_diff_names_what_cannot_be_read(pi0_compat: Callable, step: Path, tmp_path: Path) -> None:
    """A damaged file on one side is a difference."""
    other = tmp_path / "8"
    shutil.copytree(step, other)
    write(step, "droid", GOOD)
    write(other, "droid", "")
    result = pi0_compat("diff", step, other)
    assert (result.status, "droid: cannot be read in B: expected norm stats as JSON" in result.out) == (NO, True)
