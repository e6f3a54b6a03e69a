"""The Hugging Face fixture: its tensors compute what openpi's parameters do, and every damage damages."""

import json
from pathlib import Path

import numpy as np
import pytest

from fixtures import hugging_face, paligemma_npz, safetensors_file
from fixtures.damaged_safetensors import FILE_DAMAGES, FOLDER_DAMAGES, INDEX_DAMAGES
from fixtures.hugging_face import EMBEDDING, GENERATIONS, Generation
from fixtures.params import Params
from fixtures.specs import tiny
from suite.asserts import assert_close, assert_same_bits
from suite.cases import digests

SPEC = tiny(num_kv_heads=2)
PARAMS = paligemma_npz.contents(SPEC)
NAMED = hugging_face.tensors(PARAMS, "before_4_52")
LANGUAGE, VISION = "language_model.model.layers.1.", "vision_tower.vision_model.encoder.layers.1."
LLM, IMG = "PaliGemma/llm/layers/", "PaliGemma/img/Transformer/encoderblock/"
ATTENTION = f"{IMG}MultiHeadDotProductAttention_0/"


def linear(name: str, x: np.ndarray) -> np.ndarray:
    """What a PyTorch Linear without its bias gives."""
    return x @ NAMED[f"{name}.weight"].T


def some(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "path", "index"),
    [("q", "q_einsum", (1,)), ("k", "kv_einsum", (1, 0)), ("v", "kv_einsum", (1, 1))],
)
def test_projections_into_heads_compute_the_same(name: str, path: str, index: tuple[int, ...]) -> None:
    """What Gemma's q, k and v projections give, parted into heads, is what openpi's einsums give."""
    x, weight = some(5, 56), PARAMS[f"{LLM}attn/{path}/w"][index]
    found = linear(f"{LANGUAGE}self_attn.{name}_proj", x).reshape(5, -1, 10)
    assert_close(found, np.einsum("TD,NDH->TNH", x, weight), atol=1e-5)


def test_the_output_projection_computes_the_same() -> None:
    """Gemma's o_proj of heads laid one after the other is openpi's attn_vec_einsum of heads."""
    heads = some(5, 6, 10)
    expected = np.einsum("TNH,NHD->TD", heads, PARAMS[f"{LLM}attn/attn_vec_einsum/w"][1])
    assert_close(linear(f"{LANGUAGE}self_attn.o_proj", heads.reshape(5, 60)), expected, atol=1e-5)


def test_the_feed_forward_computes_the_same() -> None:
    """gate_proj is the first half of gating_einsum, up_proj the second, down_proj is linear."""
    x, hidden = some(5, 56), some(5, 88)
    for half, name in enumerate(("gate", "up")):
        expected = x @ PARAMS[f"{LLM}mlp/gating_einsum"][1, half]
        assert_close(linear(f"{LANGUAGE}mlp.{name}_proj", x), expected, atol=1e-5)
    assert_close(linear(f"{LANGUAGE}mlp.down_proj", hidden), hidden @ PARAMS[f"{LLM}mlp/linear"][1], atol=1e-5)


@pytest.mark.parametrize(("name", "path"), [("q", "query"), ("k", "key"), ("v", "value")])
def test_vision_attention_computes_the_same(name: str, path: str) -> None:
    """SigLIP's projections with their biases are openpi's kernels and biases of heads."""
    x = some(5, 40)
    expected = (
        np.einsum("PW,WNH->PNH", x, PARAMS[f"{ATTENTION}{path}/kernel"][1]) + PARAMS[f"{ATTENTION}{path}/bias"][1]
    )
    found = linear(f"{VISION}self_attn.{name}_proj", x) + NAMED[f"{VISION}self_attn.{name}_proj.bias"]
    assert_close(found.reshape(expected.shape), expected, atol=1e-5)


def test_vision_output_computes_the_same() -> None:
    """SigLIP's out_proj of heads laid one after the other is openpi's kernel of heads."""
    heads = some(5, 5, 8)
    expected = np.einsum("PNH,NHW->PW", heads, PARAMS[f"{ATTENTION}out/kernel"][1])
    assert_close(linear(f"{VISION}self_attn.out_proj", heads.reshape(5, 40)), expected, atol=1e-5)


def test_patches_compute_the_same() -> None:
    """A patch gives under the Conv2d, channels first, what it gives under openpi's kernel, channels last."""
    patch = some(14, 14, 3)
    expected = np.einsum("hwc,hwcW->W", patch, PARAMS["PaliGemma/img/embedding/kernel"])
    weight = NAMED["vision_tower.vision_model.embeddings.patch_embedding.weight"]
    assert_close(np.einsum("chw,Wchw->W", patch.transpose(2, 0, 1), weight), expected, atol=1e-4)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_tensor_has_a_name_of_its_generation(generation: Generation) -> None:
    """No tensor keeps openpi's path, and no number is lost or made but for the added tokens."""
    named = hugging_face.tensors(PARAMS, generation, padded=False)
    names = GENERATIONS[generation]
    assert all(name.startswith((names.vision, names.projector, names.language)) for name in named)
    assert sum(array.size for array in named.values()) == sum(array.size for array in PARAMS.values())


def test_added_tokens_come_last() -> None:
    """509 tokens and two more make 512 rows, a multiple of 64, of which the first 509 are the embedding."""
    embedding = NAMED["language_model.model.embed_tokens.weight"]
    assert embedding.shape == (512, 56)
    assert_same_bits({EMBEDDING: embedding[:509]}, {EMBEDDING: PARAMS[EMBEDDING]})


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_shards_hold_every_tensor_once(tmp_path: Path, dtype: str) -> None:
    """The shards together have the tensors of the whole, and the index tells where each is."""
    written = hugging_face.build(SPEC, tmp_path / "release", dtype=dtype, shards=4)
    index = json.loads((tmp_path / "release/model.safetensors.index.json").read_text())["weight_map"]
    found: Params = {}
    for file in sorted((tmp_path / "release").glob("*.safetensors")):
        part = safetensors_file.read(file)
        assert {index[name] for name in part} == {file.name}
        found |= part
    assert_same_bits(found, hugging_face.tensors(written))


@pytest.mark.parametrize("damage", [*FILE_DAMAGES, *FOLDER_DAMAGES, *INDEX_DAMAGES])
def test_every_damage_damages(tmp_path: Path, damage: str) -> None:
    """A damage changes the files of the release."""
    path = tmp_path / "release"
    hugging_face.build(SPEC, path, shards=3 if damage in INDEX_DAMAGES else 1)
    before = digests(path)
    (FILE_DAMAGES | FOLDER_DAMAGES | INDEX_DAMAGES)[damage](path)
    assert digests(path) != before
