"""Norm stats go along with a checkpoint; what is none is not called copied, and bad ones are warned of."""

import json
import warnings
from pathlib import Path

import pytest

from pi0_compat.checkpoints.norm_stats import copy_assets

GOOD = json.dumps({"norm_stats": {name: {"mean": [0.0], "std": [1.0]} for name in ("state", "actions")}})


def copied(assets: Path, out: Path) -> tuple[bool, list[str]]:
    out.mkdir()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = copy_assets(assets, out)
    return done, [str(warning.message) for warning in caught]


def test_stats_are_copied(tmp_path: Path) -> None:
    """A folder with norm stats is copied whole, without a warning."""
    (tmp_path / "assets" / "droid").mkdir(parents=True)
    (tmp_path / "assets" / "droid" / "norm_stats.json").write_text(GOOD)
    assert copied(tmp_path / "assets", tmp_path / "out") == (True, [])
    assert (tmp_path / "out" / "assets" / "droid" / "norm_stats.json").read_text() == GOOD


def test_an_empty_folder_has_no_stats(tmp_path: Path) -> None:
    """Nothing was copied of an empty folder, and the user is warned, as without one."""
    (tmp_path / "assets").mkdir()
    assert copied(tmp_path / "assets", tmp_path / "out") == (
        False,
        [f"{tmp_path}/assets: has no norm_stats.json; a policy needs norm stats, copy them by hand"],
    )
    assert copied(tmp_path / "nowhere", tmp_path / "other") == (
        False,
        [f"{tmp_path}/nowhere: not there; a policy needs norm stats, copy them by hand"],
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<!doctype html><html></html>", "expected norm stats as JSON, found a web page (HTML), which a server sent"),
        ("", "expected norm stats as JSON, found an empty file ("),
        (GOOD.replace("0.0]", "NaN]", 1), "state: mean of dimension 0 is not a finite number"),
        ("[1]", 'expected {"norm_stats": {"state": ..., "actions": ...}}, found list'),
    ],
)
def test_stats_that_are_none_are_warned_of(tmp_path: Path, content: str, words: str) -> None:
    """A file that holds no norm stats is copied as it is, and named."""
    (tmp_path / "assets").mkdir()
    file = tmp_path / "assets" / "norm_stats.json"
    file.write_text(content)
    done, (warning,) = copied(tmp_path / "assets", tmp_path / "out")
    assert done
    assert warning.startswith(f"{file}: {words}")
    assert warning.endswith("; a policy cannot use it")


def test_what_a_family_does_not_use_is_not_warned_of(tmp_path: Path) -> None:
    """Quantiles that cannot be right matter to a pi0.5, and not to a pi0; without a family they do."""
    array = {"mean": [0.0], "std": [1.0], "q01": [2.0], "q99": [-2.0]}
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "norm_stats.json").write_text(json.dumps({"norm_stats": {"state": array, "actions": array}}))
    warned = {}
    for family in ("pi0", "pi05", "pi0-FAST or PaliGemma"):
        (tmp_path / family).mkdir()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert copy_assets(tmp_path / "assets", tmp_path / family, family)
        warned[family] = [str(warning.message).partition(": ")[2] for warning in caught]
    wrong = [f"{name}: q01 is above q99 in dimension 0; a policy cannot use it" for name in ("state", "actions")]
    assert warned == {"pi0": [], "pi05": wrong, "pi0-FAST or PaliGemma": wrong}
