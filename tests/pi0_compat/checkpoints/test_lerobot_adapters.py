"""Adapters as lerobot's: PEFT's files for a policy, beside config and pipelines; and checkpoints in other layouts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fixtures import converted_policies as frozen
from pi0_compat import LerobotOptions, convert_checkpoint, extract_checkpoint
from pi0_compat.errors import LoadError
from suite.writing.cases import digests

CONFIG = "pi0_libero_low_mem_finetune_tiny"
WEIGHTS = ("adapter_model.safetensors", "adapter_config.json")


def _policy(path: Path, out: Path, config: str = CONFIG, *, fold: bool = False, **options: Any) -> dict[str, str]:
    """Write a policy folder without relative actions; return the digests of its files."""
    lerobot = LerobotOptions(delta_actions=(), **options)
    convert_checkpoint(path, out, config=config, layout="lerobot", fold=fold, lerobot=lerobot)
    return digests(out)


@pytest.fixture
def step(tmp_path: Path) -> Path:
    """Return the folder of a step with adapters, and norm stats."""
    return frozen.step(frozen.ADAPTERS, tmp_path / "step")


def test_extracted_adapters_are_written_as_those_of_the_whole(tmp_path: Path, step: Path) -> None:
    """The same files, though the base is not there."""
    whole = _policy(step, tmp_path / "whole", adapters_base="base")
    extract_checkpoint(step, tmp_path / "alone", config=CONFIG)
    alone = _policy(tmp_path / "alone", tmp_path / "policy", adapters_base="base")
    assert {name: alone[name] for name in alone if name != "README.md"} == {
        name: whole[name] for name in whole if name != "README.md"
    }


def test_config_names_the_base(tmp_path: Path, step: Path) -> None:
    """lerobot takes the folder for adapters, and finds the policy that they go on."""
    _policy(step, tmp_path / "policy", adapters_base="me/my_base")
    config = json.loads((tmp_path / "policy" / "config.json").read_text())
    assert config["use_peft"]
    assert json.loads((tmp_path / "policy" / WEIGHTS[1]).read_text())["base_model_name_or_path"] == "me/my_base"
    assert "me/my_base" in (tmp_path / "policy" / "README.md").read_text()
    assert not (tmp_path / "policy" / "model.safetensors").exists()


def test_adapters_are_never_dropped(tmp_path: Path, step: Path) -> None:
    """Without a word about them they are refused; folded, they are in the weights."""
    with pytest.raises(LoadError, match="--fold"):
        _policy(step, tmp_path / "policy")
    folded = _policy(step, tmp_path / "folded", fold=True)
    assert "model.safetensors" in folded
    assert not set(WEIGHTS) & folded.keys()


def test_no_adapters_are_no_policy(tmp_path: Path) -> None:
    """The error says what is lacking, and nothing is written."""
    base = frozen.step("pi0_base", tmp_path / "step")
    with pytest.raises(LoadError, match="it has no adapters to write for base"):
        _policy(base, tmp_path / "policy", adapters_base="base")
    assert not (tmp_path / "policy").exists()


def test_openpis_pytorch_layout_makes_the_same_policy(tmp_path: Path) -> None:
    """By way of openpi_pytorch, with its norm stats inside, every file but the card is the same."""
    step = frozen.step("pi0_base", tmp_path / "step")
    direct = _policy(step, tmp_path / "direct", "pi0_base_tiny")
    convert_checkpoint(step, tmp_path / "torch", config="pi0_base_tiny")
    by_way = _policy(tmp_path / "torch", tmp_path / "by_way", "pi0_base_tiny")
    assert {name: by_way[name] for name in by_way if name != "README.md"} == {
        name: direct[name] for name in direct if name != "README.md"
    }


def test_a_failure_leaves_nothing(tmp_path: Path, step: Path) -> None:
    """Norm stats that cannot be read: no folder appears, nor anything beside it."""
    shutil.rmtree(step / "assets")
    (step / "assets" / "robot").mkdir(parents=True)
    (step / "assets" / "robot" / "norm_stats.json").write_text("<html>")
    out = tmp_path / "made" / "policy"
    with pytest.raises(ValueError, match=r"norm_stats\.json"):
        _policy(step, out, fold=True)
    assert not list(out.parent.glob("*"))
