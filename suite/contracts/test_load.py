"""Loading parameters into a model: every leaf of model and checkpoint is accounted for, and a misfit is refused."""

import copy
from pathlib import Path
from typing import Any, cast

import pytest

from fixtures.specs import ModelSpec
from fixtures.writers import openpi, paligemma_npz
from suite.contracts.checkpoints import Checkpoint
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, refused
from suite.writing.cases import from_checkpoint


@contract(source="openpi weight_loaders.py:33", needs=("load", "openpi", "save", "lora", "load_for_inference"))
def test_saved_lora_loads_into_lora(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A saved LoRA checkpoint loads into its LoRA model, adapters bit for bit, for training and for serving."""
    path = str(tmp_path / "params")
    subject.save(lora_checkpoint.spec, lora_checkpoint.params, path)
    loaded = subject.load(lora_checkpoint.spec, from_checkpoint(path), seed=0)
    assert_same_bits(loaded["params"], lora_checkpoint.params)
    assert_same_bits(subject.load_for_inference(lora_checkpoint.spec, path), lora_checkpoint.params)


@contract(source="openpi #283; docs/bugs.md#c9", needs=("load_for_inference", "openpi", "lora"))
def test_base_for_lora_is_refused_with_the_way_out(
    subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec
) -> None:
    """Serving a base checkpoint with a LoRA config is refused; the error names a missing adapter and what to call."""
    with refused("PaliGemma/llm/layers/attn/q_einsum/lora_a", "initialize_lora_parameters"):
        subject.load_for_inference(lora_spec, base_checkpoint.path)


@contract(source="docs/bugs.md#c10; openpi #268, #672", needs=("load", "openpi"))
def test_pi0_fast_is_named(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """A checkpoint of PaliGemma only, like pi0-FAST's, is refused for a pi0, and the error says what it is."""
    openpi.write(paligemma_npz.contents(base_spec), tmp_path / "params")
    with refused("FAST", "PaliGemma", "pi0"):
        subject.load(base_spec, from_checkpoint(tmp_path / "params"), seed=0)


@contract(source="docs/bugs.md#c12, #h2; openpi PR #815", needs=("load", "openpi", "load_report", "param_spec"))
def test_training_from_nothing_is_announced(subject: Subject, base_spec: ModelSpec) -> None:
    """A load without a checkpoint warns that every parameter is fresh, and its report says so for each."""
    loaded = subject.load(base_spec, {"kind": "nothing"}, seed=0)
    assert [text for text in loaded["warnings"] if "fresh" in text or "random" in text or "initiali" in text]
    assert loaded["report"] == dict.fromkeys(subject.param_spec(base_spec), "initialized")


@contract(source="docs/bugs.md#e9", needs=("load", "openpi", "load_for_inference", "save", "lora"))
@pytest.mark.parametrize(("key", "value"), [("alpha", 11.0), ("rslora", True)])
def test_other_scale_than_saved_is_refused(
    subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path, key: str, value: Any
) -> None:
    """A config with another alpha or rslora than the saved adapters' refuses them: their effect would be scaled."""
    path, spec = str(tmp_path / "params"), cast("dict[str, Any]", copy.deepcopy(lora_checkpoint.spec))
    subject.save(spec, lora_checkpoint.params, path)
    spec["paligemma"]["lora"]["attn"][key] = value
    with refused(path, key, str(value)):
        subject.load(spec, from_checkpoint(path), seed=0)
    with refused(path, key, str(value)):
        subject.load_for_inference(spec, path)
