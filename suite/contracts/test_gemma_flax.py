"""Google's official Gemma for flax: separate layers in the file become stacked layers in the model's language model."""

from pathlib import Path

import numpy as np
import pytest

from fixtures.specs import ModelSpec, tiny
from fixtures.writers import gemma_flax
from suite.contracts.checkpoints import Checkpoint
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, refused

NEEDS = ("load", "gemma_flax")
TABLE = "PaliGemma/llm/embedder/input_embedding"


def from_gemma(path: Path) -> dict[str, str]:
    """Return a load source for an official Gemma."""
    return {"kind": "gemma_flax", "path": str(path)}


@contract(source="docs/bugs.md#c5, #c11; google-deepmind/gemma gm/nn", needs=NEEDS)
def test_missing_layer_is_refused_by_name(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """A Gemma without one of its layers is refused, and the error says which layer is missing."""
    arrays = gemma_flax.arrays(gemma_flax.contents(base_spec))
    left = {name: array for name, array in arrays.items() if not name.startswith("layer_1/")}
    gemma_flax.write(left, tmp_path / "gemma")
    with refused(str(tmp_path / "gemma"), "layer_1"):
        subject.load(base_spec, from_gemma(tmp_path / "gemma"), seed=0)


OTHER_SIZES: dict[str, tuple[ModelSpec, tuple[str, ...]]] = {
    "a_layer_more": (tiny(depth=4), ("depth", "3", "4")),
    "more_kv_heads": (tiny(num_kv_heads=2), ("num_kv_heads", "1", "2")),
    "another_vocabulary": ({**tiny(), "vocab_size": 480}, ("vocab_size", "509", "480")),
    "wider": ({**tiny(), "paligemma": {**tiny()["paligemma"], "width": 60}}, ("width", "56", "60")),
    "wider_mlp": ({**tiny(), "paligemma": {**tiny()["paligemma"], "mlp_dim": 92}}, ("mlp_dim", "88", "92")),
}


@contract(source="docs/bugs.md#c10, #c11; Gemma has 256128 tokens, PaliGemma 257152", needs=NEEDS)
@pytest.mark.parametrize("case", OTHER_SIZES)
def test_other_sizes_are_named(subject: Subject, tmp_path: Path, case: str) -> None:
    """A Gemma of other sizes is refused, and the error has each expected and actual size."""
    spec, names = OTHER_SIZES[case]
    gemma_flax.build(spec, tmp_path / "gemma")
    with refused(str(tmp_path / "gemma"), *names):
        subject.load(tiny(), from_gemma(tmp_path / "gemma"), seed=0)


@contract(
    source="google-deepmind/gemma has 256128 tokens, PaliGemma (arXiv:2407.07726) 257152",
    needs=(*NEEDS, "init", "load_report", "lora"),
)
def test_missing_tokens_are_fresh_when_asked(subject: Subject, lora_spec: ModelSpec, tmp_path: Path) -> None:
    """On request, a load extends Gemma's vocabulary with fresh rows after its own, and the report says so."""
    smaller: ModelSpec = {**lora_spec, "vocab_size": 480}
    written = gemma_flax.build(smaller, tmp_path / "gemma")[TABLE]
    source = {**from_gemma(tmp_path / "gemma"), "extend_vocabulary": True}
    loaded = subject.load(lora_spec, source, seed=3)
    expected = np.concatenate([written, subject.init(lora_spec, 3)[TABLE][480:]])
    assert_same_bits({TABLE: loaded["params"][TABLE]}, {TABLE: expected})
    assert loaded["report"][TABLE] == "extended"
    gemma_flax.build(lora_spec, tmp_path / "larger")
    with refused("vocab_size", "480", "509"):
        subject.load(smaller, {**source, "path": str(tmp_path / "larger")}, seed=3)


@contract(source="docs/bugs.md#c3, #p4", needs=NEEDS)
def test_another_layout_is_refused(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """A pi0 checkpoint is not a Gemma and is refused, not loaded as one in which nothing matches."""
    with refused(base_checkpoint.path):
        subject.load(base_checkpoint.spec, {"kind": "gemma_flax", "path": base_checkpoint.path}, seed=0)
