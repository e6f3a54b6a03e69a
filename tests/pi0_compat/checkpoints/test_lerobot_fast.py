"""``convert --to lerobot`` of a pi0-FAST, and the way back."""

import json
from pathlib import Path

import numpy as np
import pytest

from fixtures import lerobot_files
from fixtures.golden_cases import GOLDEN
from fixtures.layouts import LAYOUTS
from fixtures.specs import tiny
from fixtures.writers import lerobot, openpi_pytorch, safetensors_file
from fixtures.writers.openpi import read_params
from pi0_compat import convert_checkpoint
from pi0_compat.errors import LoadError
from pi0_compat.layouts.lerobot.config import VERSIONS
from pi0_compat.loading.loaders import OpenpiPyTorchWeightLoader
from pi0_compat.model.config import Pi0Config
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.checkpoints.lerobot_steps import policy

FAST_VERSIONS = [version for version in VERSIONS if "pi0_fast" in lerobot_files.fields()[version]]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Return the policy folder of openpi's golden pi0-FAST."""
    policy(tmp_path, "pi0_fast")
    return tmp_path / "policy"


@pytest.mark.parametrize("version", FAST_VERSIONS)
def test_config_has_just_the_fields_of_a_version(tmp_path: Path, version: str) -> None:
    """lerobot rejects a field that it does not declare."""
    policy(tmp_path, "pi0_fast", version=version)
    config = json.loads((tmp_path / "policy" / "config.json").read_text())
    assert config.keys() == lerobot_files.fields()[version]["pi0_fast"]
    assert config["type"] == "pi0_fast"


def test_a_version_without_the_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"pi0_fast.*0\.4\.2"):
        policy(tmp_path, "pi0_fast", version="0.4.2")


def test_tensors_are_those_that_lerobot_has(written: Path) -> None:
    """Every parameter bit for bit under lerobot's name, the token table as embedding and as output layer."""
    named = openpi_pytorch.tensors(read_params(GOLDEN / "pi0_fast_base" / "params"))
    named[openpi_pytorch.LM_HEAD] = named[openpi_pytorch.TOKEN_TABLE]
    found = safetensors_file.read(written / "model.safetensors")
    assert_same_bits(found, {lerobot.ROOT + name: np.ascontiguousarray(x) for name, x in named.items()})


def test_states_and_actions_have_quantiles(written: Path) -> None:
    """openpi normalizes by quantiles; lerobot's own default for the family is a z-score."""
    modes = json.loads((written / "config.json").read_text())["normalization_mapping"]
    assert modes == {"VISUAL": "IDENTITY", "STATE": "QUANTILES", "ACTION": "QUANTILES"}
    steps = json.loads((written / "policy_preprocessor.json").read_text())["steps"]
    names = [step["registry_name"] for step in steps]
    assert names[-4:] == [
        "pi0_fast_prepare_state_tokenizer_processor_step",
        "tokenizer_processor",
        "action_tokenizer_processor",
        "device_processor",
    ]


def test_images_are_those_of_the_family(written: Path) -> None:
    features = json.loads((written / "config.json").read_text())["input_features"]
    images = [name.removeprefix("observation.images.") for name in features if name.startswith("observation.images.")]
    assert images == ["base_0_rgb", "base_1_rgb", "wrist_0_rgb"]


def test_there_and_back_is_bit_for_bit(tmp_path: Path, written: Path) -> None:
    params = read_params(GOLDEN / "pi0_fast_base" / "params")
    convert_checkpoint(written, tmp_path / "back", layout="openpi", config="pi0_fast_base_tiny")
    assert_same_bits(read_params(tmp_path / "back" / "params"), params)


def test_a_policy_loads_into_its_family_alone(tmp_path: Path) -> None:
    spec = tiny("pi0_fast")
    params = LAYOUTS["lerobot"].build(spec, tmp_path / "policy")
    loaded, _ = OpenpiPyTorchWeightLoader(tmp_path / "policy").load(Pi0Config.from_json(spec))
    assert_same_bits({path: np.asarray(x) for path, x in loaded.items()}, params)
    with pytest.raises(LoadError, match="a checkpoint of pi0_fast, the config is pi05"):
        OpenpiPyTorchWeightLoader(tmp_path / "policy").load(Pi0Config.from_json(tiny("pi05")))
