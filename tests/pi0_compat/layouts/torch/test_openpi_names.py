"""Names of wrappers, parallel trainers and other versions of transformers are read as openpi's, or named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.writers import openpi_pytorch, safetensors_file
from pi0_compat.errors import LoadError
from pi0_compat.layouts.torch.openpi import open_pytorch
from pi0_compat.model.config import Pi0Config
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.tiny_models import SPEC

WEIGHTS = "model.safetensors"
MODEL = Pi0Config.from_json({**SPEC}).without_lora()
PALIGEMMA = "paligemma_with_expert.paligemma."


def before_4_52(name: str) -> str:
    for part in ("vision_tower", "multi_modal_projector"):
        name = name.replace(f"{PALIGEMMA}model.{part}.", f"{PALIGEMMA}{part}.")
    name = name.replace(f"{PALIGEMMA}model.language_model.", f"{PALIGEMMA}language_model.model.")
    return name.replace(f"{PALIGEMMA}lm_head.", f"{PALIGEMMA}language_model.lm_head.")


def from_5_6(name: str) -> str:
    name = name.replace(".vision_tower.vision_model.", ".vision_tower.")
    return name.replace(f"{PALIGEMMA}model.language_model.", f"{PALIGEMMA}model.language_model.model.")


RENAMED: dict[str, Callable[[str], str]] = {
    "transformers before 4.52": before_4_52,
    "lerobot 0.3": lambda name: f"model.{before_4_52(name)}",
    "transformers from 5.6": from_5_6,
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "DataParallel around a policy": lambda name: f"module.model.{name}",
    "Lightning": lambda name: f"_forward_module.model.{name}",
    "FSDP": lambda name: f"_fsdp_wrapped_module.{name.replace('.layers.', '.layers._fsdp_wrapped_module.')}",
    "activation checkpoints": lambda name: name.replace(".mlp.", "._checkpoint_wrapped_module.mlp."),
    "compiled layers": lambda name: name.replace(".self_attn.", "._orig_mod.self_attn."),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    openpi_pytorch.build(SPEC, tmp_path / "pi0")
    return tmp_path / "pi0"


def rename(folder: Path, change: Callable[[str], str]) -> None:
    tensors = safetensors_file.read(folder / WEIGHTS)
    safetensors_file.write({change(name): tensor for name, tensor in tensors.items()}, folder / WEIGHTS)


@pytest.mark.parametrize("kind", RENAMED)
def test_other_names_are_read(folder: Path, kind: str) -> None:
    """The same tensors under other names are the same parameters, bit for bit."""
    source = open_pytorch(folder, MODEL)
    expected = {path: source.read(path).copy() for path in MODEL.param_spec()}
    before = set(safetensors_file.read(folder / WEIGHTS))
    rename(folder, RENAMED[kind])
    assert before != set(safetensors_file.read(folder / WEIGHTS))
    renamed = open_pytorch(folder, MODEL)
    assert_same_bits({path: renamed.read(path) for path in MODEL.param_spec()}, expected)


def test_an_unknown_wrapper_is_named(folder: Path) -> None:
    """A prefix that no known wrapper leaves is named, with what to do."""
    rename(folder, lambda name: f"student.net.{name}")
    with pytest.raises(LoadError) as error:
        open_pytorch(folder, MODEL)
    assert str(error.value) == (
        f"{folder}/{WEIGHTS}: the names begin with 'student.net.', which a wrapper has left, for example "
        "student.net.paligemma_with_expert.gemma_expert.lm_head.weight; save the model inside of it, or rename the "
        "tensors without it"
    )


def test_weights_beside_adapters_are_named(folder: Path) -> None:
    """`base_layer` tells of adapters that were put in place: without them the fine-tuning is lost."""
    rename(folder, lambda name: name.replace(".q_proj.weight", ".q_proj.base_layer.weight"))
    count = sum("base_layer" in name for name in safetensors_file.read(folder / WEIGHTS))
    with pytest.raises(LoadError) as error:
        open_pytorch(folder, MODEL)
    message = str(error.value)
    assert message.startswith(
        f"{folder}/{WEIGHTS}: {count} tensors have names that PEFT gives to weights beside adapters, for example "
    )
    assert message.endswith("merge them in PyTorch (PEFT's merge_and_unload()), save the merged model, and pass that")
