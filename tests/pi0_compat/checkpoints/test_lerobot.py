"""``convert --to lerobot``: the folder is lerobot's, and its numbers are openpi's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import lerobot_files
from fixtures.golden_cases import GOLDEN
from fixtures.writers import openpi_pytorch, safetensors_file
from fixtures.writers.lerobot import ROOT
from fixtures.writers.openpi import read_params
from pi0_compat import convert_checkpoint
from pi0_compat.errors import LoadError
from pi0_compat.layouts.lerobot.config import VERSIONS
from pi0_compat.norm_stats.openpi_files import read_norm_stats
from suite.writing.asserts import assert_same_bits
from suite.writing.cases import digests
from tests.pi0_compat.checkpoints.lerobot_steps import FAMILIES, STATS, denormalize, normalize, policy, step
from tests.pi0_compat.norm_stats.formulas import openpi, openpi_back

JSON_FILES = ("config.json", "policy_preprocessor.json", "policy_postprocessor.json")
# What differs from lerobot's own on purpose: openpi's epsilon, no upload, and no joint that is called gripper.
OURS = {
    "eps": (1e-8, 1e-6),
    "push_to_hub": (True, False),
    "relative_exclude_joints": (["gripper"], []),
    "exclude_joints": (["gripper"], []),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("version", VERSIONS)
def test_config_has_just_the_fields_of_a_version(tmp_path: Path, family: str, version: str) -> None:
    """lerobot rejects a field that it does not declare."""
    policy(tmp_path, family, version=version)
    config = json.loads((tmp_path / "policy" / "config.json").read_text())
    assert config.keys() == lerobot_files.fields()[version][family]


@pytest.mark.parametrize("family", FAMILIES)
def test_files_are_those_that_lerobot_saves(tmp_path: Path, family: str) -> None:
    """Names, steps, their order and options are lerobot's; only what is ours on purpose differs."""
    policy(tmp_path, family)
    theirs = lerobot_files.saved(family)
    ours = {name: json.loads((tmp_path / "policy" / name).read_text()) for name in JSON_FILES}
    names = {file.name for file in (tmp_path / "policy").iterdir()} - {"README.md", "assets", "model.safetensors"}
    assert names == set(theirs.pop("files"))
    for path, pair in _differences(theirs, ours):
        assert pair == OURS[path.rpartition("/")[2]], path


def _differences(one: Any, other: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [*one, *(key for key in other if key not in one)]
        return [pair for key in keys for pair in _differences(one.get(key), other.get(key), f"{path}/{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [pair for n in range(len(one)) for pair in _differences(one[n], other[n], f"{path}/{n}")]
    return [] if one == other else [(path, (one, other))]


@pytest.mark.parametrize("family", FAMILIES)
def test_tensors_are_those_that_lerobot_has(tmp_path: Path, family: str) -> None:
    """Every parameter bit for bit under lerobot's name, the token table under both, and the head that is not used."""
    policy(tmp_path, family)
    params = read_params(GOLDEN / f"{family}_base" / "params")
    named = openpi_pytorch.tensors(params)
    named[openpi_pytorch.LM_HEAD] = named[openpi_pytorch.TOKEN_TABLE]
    width = params["action_in_proj/bias"].shape[-1]
    named[openpi_pytorch.EXPERT_HEAD] = np.zeros((len(named[openpi_pytorch.LM_HEAD]), width), np.float32)
    written = safetensors_file.read(tmp_path / "policy" / "model.safetensors")
    assert_same_bits(written, {ROOT + name: np.ascontiguousarray(x) for name, x in named.items()})


@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_are_openpis(tmp_path: Path, family: str) -> None:
    """lerobot normalizes states and actions to what openpi normalizes them to, and back."""
    policy(tmp_path, family)
    io, folder = lerobot_files.normalized(family), tmp_path / "policy"
    assert np.abs(normalize(folder, "observation.state", io["raw_state"]) - io["state"]).max() < 1e-6
    assert np.abs(normalize(folder, "action", io["raw_actions"]) - io["actions"]).max() < 1e-6
    robot = denormalize(folder, "action", np.load(GOLDEN / f"{family}_base" / "io.npz")["sampled_actions"])
    np.testing.assert_allclose(robot, io["robot_actions"], rtol=1e-6, atol=1e-6)


# Dimensions that are constant, at places where float32 loses openpi's epsilon, and one that is not.
HARD = {"low": [0.0, 5.0, 12.0, 20.0, 300.0, -1e4, 0.25, 3.0], "span": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]}


def _hard_stats(file: Path) -> Path:
    low, span = np.array(HARD["low"]), np.array(HARD["span"])
    one = {"mean": low.tolist(), "std": span.tolist(), "q01": low.tolist(), "q99": (low + span).tolist()}
    file.write_text(json.dumps({"norm_stats": {"state": one, "actions": one}}))
    return file


@pytest.mark.parametrize("family", FAMILIES)
def test_constant_dimensions_are_openpis(tmp_path: Path, family: str) -> None:
    """A value that never changes is normalized as in openpi at any magnitude, and so is a small deviation from it."""
    step(tmp_path / family, f"{family}_base", _hard_stats(tmp_path / "stats.json"))
    done = policy(tmp_path, family)
    stats = read_norm_stats(tmp_path / "stats.json")["actions"]
    low = np.array(HARD["low"], np.float32)
    x = np.stack([low, np.nextafter(low, np.float32(np.inf))])
    expected = openpi(x.astype(np.float64), stats, family)
    found = normalize(tmp_path / "policy", "action", x).astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    back = denormalize(tmp_path / "policy", "action", np.array([[-1.0] * 8, [1.0] * 8]))
    np.testing.assert_allclose(
        back, openpi_back(np.array([[-1.0] * 8, [1.0] * 8]), stats, family), rtol=1e-7, atol=1e-9
    )
    assert not done.inexact


@pytest.mark.parametrize("family", FAMILIES)
def test_what_float32_cannot_hold_is_listed(tmp_path: Path, family: str) -> None:
    """A small spread around a large value: the dimension is named, and no other one."""
    file = _hard_stats(tmp_path / "stats.json")
    document = json.loads(file.read_text())
    document["norm_stats"]["actions"] |= {"mean": [300.00001] * 8, "q01": [300.00001] * 8, "std": [0.001] + [10.0] * 7}
    document["norm_stats"]["actions"]["q99"] = [300.00101] + [1300.0] * 7
    file.write_text(json.dumps(document))
    step(tmp_path / family, f"{family}_base", file)
    done = policy(tmp_path, family)
    assert [text.partition(":")[0] for text in done.inexact] == ["action[0]"]
    assert done.inexact[0] in (tmp_path / "policy" / "README.md").read_text()


@pytest.mark.parametrize("family", FAMILIES)
def test_and_back_is_bit_for_bit(tmp_path: Path, family: str) -> None:
    """openpi -> lerobot -> openpi: the parameters, and the norm stats in float64."""
    policy(tmp_path, family)
    convert_checkpoint(tmp_path / "policy", tmp_path / "back", config=f"{family}_base_tiny", layout="openpi")
    params = read_params(GOLDEN / f"{family}_base" / "params")
    assert_same_bits(read_params(tmp_path / "back" / "params"), params)
    assert (tmp_path / "back" / STATS).read_bytes() == lerobot_files.NORM_STATS.read_bytes()


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    """All files, the model card too."""
    for out in ("one", "other"):
        policy(tmp_path, out=out)
    assert digests(tmp_path / "one") == digests(tmp_path / "other")


def test_card_says_where_it_comes_from(tmp_path: Path) -> None:
    """The digest is that of the parameters as they were read, and no folder of the machine is named."""
    policy(tmp_path)
    card = (tmp_path / "policy" / "README.md").read_text()
    assert "56134d43c41d2685eccb179c96a9d503179443f8a27349c2826c265121046cf8" in card
    assert "pi0_base_tiny" in card
    assert "lerobot 0.6.1" in card
    assert str(tmp_path) not in card


def test_dtype_is_what_the_weights_have(tmp_path: Path) -> None:
    """lerobot computes in float32 unless all weights are bfloat16."""
    step(tmp_path / "pi0")
    options: dict[str, Any] = {"config": "pi0_base_tiny", "layout": "lerobot"}
    convert_checkpoint(tmp_path / "pi0", tmp_path / "half", dtype="bfloat16", **options)
    convert_checkpoint(tmp_path / "pi0", tmp_path / "full", **options)
    dtypes = [json.loads((tmp_path / out / "config.json").read_text())["dtype"] for out in ("half", "full")]
    assert dtypes == ["bfloat16", "float32"]


def test_longer_stats_are_cut_and_shorter_ones_padded(tmp_path: Path) -> None:
    """As openpi does: statistics are cut to the size of a value, and actions beyond them pass unchanged."""
    short = json.loads(lerobot_files.NORM_STATS.read_text())
    short["norm_stats"]["actions"] = {key: values[:6] for key, values in short["norm_stats"]["actions"].items()}
    (tmp_path / "stats.json").write_text(json.dumps(short))
    step(tmp_path / "pi05", "pi05_base", tmp_path / "stats.json")
    policy(tmp_path, "pi05", state_dim=5, action_dim=8)
    config = json.loads((tmp_path / "policy" / "config.json").read_text())
    assert config["input_features"]["observation.state"]["shape"] == [5]
    x = np.linspace(-1, 1, 16).reshape(2, 8)
    stats = read_norm_stats(tmp_path / "stats.json")["actions"]
    found = denormalize(tmp_path / "policy", "action", x)
    np.testing.assert_allclose(found[:, :6], openpi_back(x[:, :6], stats, "pi05"), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[:, 6:], x[:, 6:], rtol=1e-6, atol=1e-6)


def test_stats_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    """The error names the file, and nothing is written."""
    stats = json.loads(lerobot_files.NORM_STATS.read_text())
    stats["norm_stats"]["state"]["std"][3] = float("nan")
    (tmp_path / "stats.json").write_text(json.dumps(stats))
    step(tmp_path / "pi0", stats=tmp_path / "stats.json")
    with pytest.raises(LoadError, match=r"norm_stats.json: state.std has a number that is not finite"):
        policy(tmp_path)
    assert not (tmp_path / "policy").exists()
