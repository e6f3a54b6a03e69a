"""openpi's norm stats are read as they are, written as openpi writes them, and named where they are none."""

import json
from pathlib import Path

import numpy as np
import pytest

from pi0_compat.errors import CheckpointError
from pi0_compat.norm_stats.openpi_files import asset_files, read_norm_stats, write_norm_stats
from pi0_compat.norm_stats.stats import Stats

ODD = np.array([0.1, -1e-17, np.float64(np.float32(0.3)), 1e22, np.nextafter(1, 2)])


def test_every_bit_survives(tmp_path: Path) -> None:
    """Write and read gives the same float64 bits, unknown quantiles stay unknown, and a second run the same bytes."""
    stats = {"state": Stats(mean=ODD, std=ODD[::-1]), "actions": Stats(mean=ODD, std=ODD, q01=-ODD, q99=ODD)}
    file, again = tmp_path / "a" / "b" / "norm_stats.json", tmp_path / "again.json"
    write_norm_stats(stats, file)
    write_norm_stats(stats, again)
    found = read_norm_stats(file)
    assert list(found) == ["state", "actions"]
    assert all(found[name].same_as(stats[name]) for name in stats)
    assert found["state"].q01 is None
    assert file.read_bytes() == again.read_bytes()
    assert json.loads(file.read_text())["norm_stats"]["state"]["q99"] is None


def test_not_a_number_is_read(tmp_path: Path) -> None:
    """NaN, which openpi reads too, comes through: judging is not reading."""
    file = tmp_path / "norm_stats.json"
    file.write_text('{"norm_stats": {"state": {"mean": [NaN], "std": [Infinity]}}}')
    found = read_norm_stats(file)["state"]
    assert np.isnan(found["mean"]).all()
    assert np.isinf(found["std"]).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "found an empty file"),
        ("<!DOCTYPE html>\n<html>404</html>", "found a web page (HTML)"),
        ("version https://git-lfs.github.com/spec/v1\n", "found a Git LFS pointer"),
        ("{", "found something else"),
        ("[1]", "found list"),
        ('{"state": {"mean": [0.0]}}', "found an object with ['state']"),
        ('{"norm_stats": {}}', "found an object with ['norm_stats']"),
        ('{"norm_stats": {"state": {"mean": [0.0]}}}', "state has no std, which openpi requires; found ['mean']"),
        ('{"norm_stats": {"state": {"mean": [0.0], "std": "1"}}}', "state.std is '1'; expected a list of numbers"),
        ('{"norm_stats": {"state": {"mean": [0.0], "std": [[1.0]]}}}', "state.std is [[1.0]]; expected a list"),
        ('{"norm_stats": {"state": {"mean": [0.0], "std": [1.0, [2]]}}}', "state.std is [1.0, [2]]; expected a list"),
        ('{"norm_stats": {"state": {"mean": [true], "std": [1.0]}}}', "state.mean is [True]; expected a list"),
        ('{"norm_stats": {"state": {"mean": [], "std": []}}}', "state.mean is []; expected a list"),
        ('{"norm_stats": {"state": [1]}}', "state is [1]; expected mean, std, q01 and q99"),
    ],
)
def test_what_is_none_is_named(tmp_path: Path, content: str, words: str) -> None:
    """A file that holds no norm stats is rejected with its path and what it holds."""
    file = tmp_path / "norm_stats.json"
    file.write_text(content)
    with pytest.raises(CheckpointError) as caught:
        read_norm_stats(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert words in str(caught.value)


def test_asset_ids_are_folders(tmp_path: Path) -> None:
    """An asset id may have a slash; a step without assets has none."""
    for asset in ("droid", "physical-intelligence/libero"):
        write_norm_stats({"state": Stats(mean=ODD, std=ODD)}, tmp_path / "assets" / asset / "norm_stats.json")
    assert list(asset_files(tmp_path)) == ["droid", "physical-intelligence/libero"]
    assert asset_files(tmp_path / "assets") == {}
