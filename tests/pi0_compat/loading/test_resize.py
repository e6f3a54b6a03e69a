"""Position embeddings of another resolution, and the diagnosis of a checkpoint of another model."""

import importlib

import numpy as np
import pytest

from fixtures.writers import paligemma_npz
from pi0_compat.diagnosis import later_version, other_sizes
from pi0_compat.errors import LoadError
from pi0_compat.layouts.paligemma_npz import open_npz
from pi0_compat.loading.loaders import PaliGemmaWeightLoader
from pi0_compat.loading.report import Status
from pi0_compat.loading.resize import resample
from pi0_compat.params import Leaf
from pi0_compat.paths import POSITION_TABLE
from suite.writing.asserts import assert_close, assert_same_bits
from tests.pi0_compat.tiny_models import BASE, BASE_SPEC

# mypy has no types for scipy.
zoom = importlib.import_module("scipy.ndimage").zoom
EMBEDDING = "PaliGemma/llm/embedder/input_embedding"


@pytest.mark.parametrize("old", [1, 2, 5, 16])
@pytest.mark.parametrize("new", [1, 2, 7, 16, 32])
def test_resampling_equals_big_vision(old: int, new: int) -> None:
    """The result equals scipy's zoom of order one, which big_vision uses."""
    grid = np.random.default_rng(0).normal(size=(old, old, 3)).astype(np.float32)
    expected = zoom(grid, (new / old, new / old, 1), order=1)
    assert_close(resample(grid.reshape(1, -1, 3), new**2), expected.reshape(1, -1, 3), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_resolution_is_left_alone(tmp_path, dtype: str) -> None:
    """Position embeddings that fit are the file's own, bit for bit, even if resampling is allowed."""
    written = paligemma_npz.build(BASE_SPEC, tmp_path / "pt_224.npz", dtype=dtype)
    params, _ = PaliGemmaWeightLoader(tmp_path / "pt_224.npz", resample_positions=True).load(BASE)
    assert_same_bits(
        {POSITION_TABLE: params[POSITION_TABLE]}, {POSITION_TABLE: written[POSITION_TABLE].astype(np.float32)}
    )


def test_the_report_has_both_shapes(tmp_path) -> None:
    """Resampled embeddings are reported with the shape in the file and the resulting shape."""
    paligemma_npz.build({**BASE_SPEC, "image_size": 56}, tmp_path / "pt_448.npz")
    _, report = PaliGemmaWeightLoader(tmp_path / "pt_448.npz", resample_positions=True).load(BASE)
    assert report.paths(Status.RESAMPLED) == [POSITION_TABLE]
    assert f"{POSITION_TABLE}: resampled float32[1, 16, 40] -> float32[1, 4, 40]" in str(report)


def test_another_width_is_not_resampled(tmp_path) -> None:
    """Position embeddings of another width are refused with both shapes: only their number can change."""
    params = paligemma_npz.contents({**BASE_SPEC, "image_size": 56})
    paligemma_npz.write(params | {POSITION_TABLE: params[POSITION_TABLE][..., :39]}, tmp_path / "pt_448.npz")
    with pytest.raises(LoadError, match=r"expected float32\[1, 4, 40\], found float32\[1, 4, 39\]"):
        PaliGemmaWeightLoader(tmp_path / "pt_448.npz", resample_positions=True).load(BASE)


def test_a_file_without_positions_is_refused_by_name(tmp_path) -> None:
    """Without position embeddings nothing can be resampled, and their absence is reported."""
    params = {path: x for path, x in paligemma_npz.contents(BASE_SPEC).items() if path != POSITION_TABLE}
    paligemma_npz.write(params, tmp_path / "pt_224.npz")
    with pytest.raises(LoadError, match=f"- {POSITION_TABLE}: expected"):
        PaliGemmaWeightLoader(tmp_path / "pt_224.npz", resample_positions=True).load(BASE)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("PaliGemma/llm/layers/post_attention_norm/scale", "Gemma 2"),
        ("PaliGemma/llm/layers/post_ffw_norm/scale", "Gemma 2"),
        ("model.layers.0.pre_feedforward_layernorm.weight", "Gemma 2"),
        ("model.layers.0.self_attn.q_norm.weight", "Gemma 3"),
        ("transformer/layer_0/attn/_key_norm/scale", "Gemma 3"),
    ],
)
def test_later_versions_are_known_by_their_norms(name: str, version: str) -> None:
    """One name that only a later version has is enough, and it is reported."""
    advice = later_version([name, "PaliGemma/llm/final_norm/scale"])
    assert advice is not None
    assert version in advice
    assert name in advice


def test_the_first_version_is_not_taken_for_a_later_one(tmp_path) -> None:
    """No name of a pi0 or of a PaliGemma 1, Google's or Hugging Face's, is taken for a later version's."""
    paligemma_npz.build(BASE_SPEC, tmp_path / "pt_224.npz")
    with open_npz(tmp_path / "pt_224.npz") as npz:
        assert later_version(npz.leaves) is None
    assert later_version(BASE.param_spec()) is None
    assert later_version(["model.language_model.layers.0.post_attention_layernorm.weight"]) is None


def leaves(**changes: tuple[int, ...]) -> dict[str, Leaf]:
    """Return shapes of a model, with some of them changed."""
    shapes = {POSITION_TABLE: (1, 4, 40), EMBEDDING: (509, 56), "PaliGemma/img/embedding/kernel": (14, 14, 3, 40)}
    shapes |= {{"positions": POSITION_TABLE, "embedding": EMBEDDING}[name]: shape for name, shape in changes.items()}
    return {path: Leaf(shape, np.dtype(np.float32)) for path, shape in shapes.items()}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (leaves(), []),
        (leaves(embedding=(600, 56)), ["a vocabulary of 600 tokens, the model has 509"]),
        (leaves(embedding=(509, 64)), ["a language model of width 64, the model has 56"]),
        (leaves(embedding=(509,)), []),
        (leaves(positions=(1, 3, 40)), []),
        (leaves(positions=(1, 16, 41)), []),
    ],
    ids=["equal", "vocabulary", "width", "rank", "no_grid", "other_width"],
)
def test_different_sizes_are_described(found: dict[str, Leaf], words: list[str]) -> None:
    """Only a size that certainly differs is reported."""
    assert other_sizes(leaves(), found) == words


def test_image_sizes_are_given_in_pixels() -> None:
    """Four by four patches of 14 pixels are an image of 56, and a solution is suggested."""
    (words,) = other_sizes(leaves(), leaves(positions=(1, 16, 40)))
    assert words.startswith("position embeddings for images of 56 pixels, the model has 28")
    assert "resample_positions=True" in words
