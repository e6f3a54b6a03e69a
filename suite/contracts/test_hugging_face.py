"""Hugging Face's PaliGemma: one PyTorch tensor per layer, under three sets of names, lands in openpi's stacked tree."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny
from fixtures.writers import hugging_face, paligemma_npz
from fixtures.writers.hugging_face import EMBEDDING, GENERATIONS, Generation
from suite.contracts.load_asserts import assert_landed, assert_refused
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.cases import from_hugging_face

NEEDS = ("load", "hugging_face")
VISION, LANGUAGE = "model.vision_tower.vision_model.", "model.language_model."
EMBED_TOKENS, LM_HEAD = f"{LANGUAGE}embed_tokens.weight", "lm_head.weight"
IMG, LLM, SELF_ATTENTION = "PaliGemma/img/", "PaliGemma/llm/layers/", "MultiHeadDotProductAttention_0"

# The place of each kind of tensor in openpi's tree, written by hand: path, then layer, then half of a fused parameter.
PLACES: dict[str, tuple[str, Any]] = {
    f"{LANGUAGE}layers.2.input_layernorm.weight": (f"{LLM}pre_attention_norm/scale", 2),
    f"{LANGUAGE}layers.2.post_attention_layernorm.weight": (f"{LLM}pre_ffw_norm/scale", 2),
    f"{LANGUAGE}layers.2.self_attn.q_proj.weight": (f"{LLM}attn/q_einsum/w", 2),
    f"{LANGUAGE}layers.2.self_attn.k_proj.weight": (f"{LLM}attn/kv_einsum/w", (2, 0)),
    f"{LANGUAGE}layers.2.self_attn.v_proj.weight": (f"{LLM}attn/kv_einsum/w", (2, 1)),
    f"{LANGUAGE}layers.2.self_attn.o_proj.weight": (f"{LLM}attn/attn_vec_einsum/w", 2),
    f"{LANGUAGE}layers.2.mlp.gate_proj.weight": (f"{LLM}mlp/gating_einsum", (2, 0)),
    f"{LANGUAGE}layers.2.mlp.up_proj.weight": (f"{LLM}mlp/gating_einsum", (2, 1)),
    f"{LANGUAGE}layers.2.mlp.down_proj.weight": (f"{LLM}mlp/linear", 2),
    f"{LANGUAGE}norm.weight": ("PaliGemma/llm/final_norm/scale", ...),
    f"{VISION}encoder.layers.1.layer_norm1.weight": (f"{IMG}Transformer/encoderblock/LayerNorm_0/scale", 1),
    f"{VISION}encoder.layers.1.layer_norm1.bias": (f"{IMG}Transformer/encoderblock/LayerNorm_0/bias", 1),
    f"{VISION}encoder.layers.1.layer_norm2.weight": (f"{IMG}Transformer/encoderblock/LayerNorm_1/scale", 1),
    f"{VISION}encoder.layers.1.layer_norm2.bias": (f"{IMG}Transformer/encoderblock/LayerNorm_1/bias", 1),
    f"{VISION}encoder.layers.1.mlp.fc1.bias": (f"{IMG}Transformer/encoderblock/MlpBlock_0/Dense_0/bias", 1),
    f"{VISION}encoder.layers.1.mlp.fc2.bias": (f"{IMG}Transformer/encoderblock/MlpBlock_0/Dense_1/bias", 1),
    **{
        f"{VISION}encoder.layers.1.self_attn.{name}_proj.weight": (
            f"{IMG}Transformer/encoderblock/{SELF_ATTENTION}/{path}/kernel",
            1,
        )
        for name, path in {"q": "query", "k": "key", "v": "value", "out": "out"}.items()
    },
    f"{VISION}post_layernorm.weight": (f"{IMG}Transformer/encoder_norm/scale", ...),
    f"{VISION}post_layernorm.bias": (f"{IMG}Transformer/encoder_norm/bias", ...),
    "model.multi_modal_projector.linear.bias": (f"{IMG}head/bias", ...),
}


def deep() -> ModelSpec:
    """Return a spec with more than ten layers in both towers, two key/value heads, and heads x head_dim != width."""
    spec = tiny(num_kv_heads=2, depth=11)
    spec["siglip"]["depth"] = 12
    return spec


def load(subject: Subject, spec: ModelSpec, path: Path, seed: int = 0) -> Params:
    params: Params = subject.load(spec, from_hugging_face(path), seed=seed)["params"]
    return params


def refuse_tensors(subject: Subject, spec: ModelSpec, named: Params, path: Path, *mentions: str) -> None:
    """Assert that a file with these tensors is refused with an error that names the file and all ``mentions``."""
    hugging_face.write_tensors(named, path)
    assert_refused(subject, spec, from_hugging_face(path), *mentions)


@contract(
    source="transformers 4.41, 4.52 and 5.6 modeling_paligemma.py; lerobot #1406, #2964; docs/bugs.md#f6", needs=NEEDS
)
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_lands_leaf_by_leaf(
    subject: Subject, base_spec: ModelSpec, tmp_path: Path, generation: Generation, shards: int
) -> None:
    """Under the names of every generation of transformers, in one file or in shards, every array lands in its place."""
    path = tmp_path / "release"
    written = hugging_face.build(base_spec, path, generation=generation, shards=shards)
    assert_landed(load(subject, base_spec, path), written)


@contract(source="transformers modeling_gemma.py, modeling_siglip.py", needs=NEEDS)
def test_each_tensor_has_its_place(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """A tensor filled with one number sets exactly one layer of one parameter, or one half of a fused one."""
    named = hugging_face.tensors(paligemma_npz.contents(base_spec))
    numbers = {name: 2.0 + n for n, name in enumerate(PLACES)}
    filled = {name: np.full_like(named[name], number) for name, number in numbers.items()}
    hugging_face.write_tensors(named | filled, tmp_path / "release")
    params = load(subject, base_spec, tmp_path / "release")
    placed = {name: params[path][index] for name, (path, index) in PLACES.items()}
    assert {name: (array.min(), array.max()) for name, array in placed.items()} == {
        name: (number, number) for name, number in numbers.items()
    }


@contract(source="transformers modeling_gemma.py: view(..., heads, head_dim)", needs=NEEDS)
def test_heads_keep_their_order(subject: Subject, tmp_path: Path) -> None:
    """Heads are contiguous in a projection, and head n of the file is head n of the model."""
    spec = deep()
    named = hugging_face.tensors(paligemma_npz.contents(spec))
    heads, kv_heads, head_dim = 6, 2, spec["paligemma"]["head_dim"]
    for name in (name for name in named if ".language_model.layers." in name and "self_attn" in name):
        numbers = np.repeat(np.arange(kv_heads if "k_proj" in name or "v_proj" in name else heads), head_dim)
        named[name][...] = numbers if "o_proj" in name else numbers[:, None]
    hugging_face.write_tensors(named, tmp_path / "release")
    params = load(subject, spec, tmp_path / "release")
    for path, axis in (("q_einsum", 1), ("kv_einsum", 2), ("attn_vec_einsum", 1)):
        by_head = np.moveaxis(params[f"{LLM}attn/{path}/w"], axis, 0)
        assert [np.unique(head).tolist() for head in by_head] == [[n] for n in range(len(by_head))], path


@contract(source="transformers convert_paligemma_weights_to_hf.py: 257216 rows for 257152 tokens", needs=NEEDS)
def test_added_tokens_are_not_loaded(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """The rows of noise that transformers adds to the vocabulary are left out; a file without them loads the same."""
    written = paligemma_npz.contents(base_spec)
    for padded in (True, False):
        named = hugging_face.tensors(written, padded=padded)
        assert (named[EMBED_TOKENS].shape[0] == base_spec["vocab_size"]) is not padded
        hugging_face.write_tensors(named, tmp_path / str(padded))
        assert_landed(load(subject, base_spec, tmp_path / str(padded)), written)


@contract(source="docs/bugs.md#g9, #c11", needs=NEEDS)
@pytest.mark.parametrize("kept", [(0, 2), (0, 1, 2, 3)], ids=["one_missing", "one_too_many"])
@pytest.mark.parametrize(
    ("part", "prefix"),
    [("paligemma", f"{LANGUAGE}layers."), ("siglip", f"{VISION}encoder.layers.")],
    ids=["language", "vision"],
)
def test_other_layers_are_refused(
    subject: Subject, base_spec: ModelSpec, tmp_path: Path, part: str, prefix: str, kept: tuple[int, ...]
) -> None:
    """A file with a missing layer, or with more layers than the model, is refused."""
    model, of_file = copy.deepcopy(base_spec), copy.deepcopy(base_spec)
    model["siglip"]["depth"] = of_file["siglip"]["depth"] = 3
    of_file[part]["depth"] = 4  # type: ignore[literal-required]
    gone = tuple(f"{prefix}{n}." for n in range(4) if n not in kept)
    named = hugging_face.tensors(paligemma_npz.contents(of_file))
    left = {name: array for name, array in named.items() if not name.startswith(gone)}
    refuse_tensors(subject, model, left, tmp_path / "release", "layers", *gone[:1])


@contract(source="docs/bugs.md#c11: shapes alone do not explain the error", needs=NEEDS)
@pytest.mark.parametrize(
    ("size", "other", "mentions"),
    [
        ("vocab_size", 600, (EMBEDDING, "vocabulary", "640", "509")),
        ("image_size", 56, (f"{IMG}pos_embedding", "pixels", "56", "28")),
    ],
    ids=["vocabulary", "image_size"],
)
def test_other_sizes_are_named(
    subject: Subject, base_spec: ModelSpec, tmp_path: Path, size: str, other: int, mentions: tuple[str, ...]
) -> None:
    """Another vocabulary or image size is refused with both sizes, in words."""
    of_file = copy.deepcopy(base_spec)
    of_file[size] = other  # type: ignore[literal-required]
    named = hugging_face.tensors(paligemma_npz.contents(of_file))
    refuse_tensors(subject, base_spec, named, tmp_path / "release", *mentions)


@contract(source="docs/bugs.md#c11; huggingface/safetensors#format", needs=NEEDS)
def test_unequal_layers_are_refused(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """Layers of different widths, or a transposed tensor, are refused by the parameter's path."""
    named = hugging_face.tensors(paligemma_npz.contents(base_spec))
    name = f"{LANGUAGE}layers.1.mlp.down_proj.weight"
    refuse_tensors(subject, base_spec, named | {name: named[name][:, :-1]}, tmp_path / "narrow", "mlp/linear")
    turned = {n: x.T.copy() if "o_proj" in n else x for n, x in named.items()}
    refuse_tensors(subject, base_spec, turned, tmp_path / "turned", "attn_vec_einsum")
