"""Hugging Face's PaliGemma: errors of files that do not fit."""

from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fixtures.writers import hugging_face, paligemma_npz
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.torch.hugging_face import HuggingFacePaliGemma, _common, open_hugging_face
from pi0_compat.layouts.torch.safetensors_folder import open_tensors
from pi0_compat.model.config import Pi0Config
from pi0_compat.params import Leaf, leaves_of
from pi0_compat.paths import TOKEN_TABLE, in_paligemma
from pi0_compat.storage.stream import Source
from pi0_compat.training.configs import get_config
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.tiny_models import BASE, BASE_SPEC, Params

LAYER = "model.language_model.layers.1"


def named(**changes: np.ndarray) -> Params:
    return hugging_face.tensors(paligemma_npz.contents(BASE_SPEC)) | changes


def refusal(tensors: Params, tmp_path: Path, model: Pi0Config = BASE) -> str:
    """Return the message that refuses a file of these tensors when it is opened."""
    path = tmp_path / "model.safetensors"
    hugging_face.write_tensors(tensors, path)
    with pytest.raises(LoadError) as caught, open_hugging_face(path, model):
        pass
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_leaves_are_known_before_an_array_is_read(tmp_path: Path) -> None:
    """Shapes and dtypes come from the headers; added tokens have a separate entry."""
    written = hugging_face.build(BASE_SPEC, tmp_path / "release", dtype="bfloat16", shards=2)
    with open_hugging_face(tmp_path / "release", BASE) as source:
        added = {"model.language_model.embed_tokens.weight[509:]": Leaf((3, 56), np.dtype(ml_dtypes.bfloat16))}
        assert source.leaves == leaves_of(written) | added
        assert_same_bits({path: source.read(path) for path in written}, written)


def test_parameters_are_no_views_of_the_file(tmp_path: Path) -> None:
    """Parameters are writable, and changing the file does not change them."""
    hugging_face.build(BASE_SPEC, tmp_path / "model.safetensors")
    with open_hugging_face(tmp_path / "model.safetensors", BASE) as source:
        arrays = [source.read(path) for path in source.leaves if "[" not in path]
    assert all(array.flags.writeable and array.flags.owndata for array in arrays)


def test_a_missing_tensor_is_named_with_its_parameter(tmp_path: Path) -> None:
    """The line has Hugging Face's name and openpi's."""
    tensors = named()
    del tensors[f"{LAYER}.mlp.up_proj.weight"]
    text = refusal(tensors, tmp_path)
    assert "1 tensors of PaliGemma are missing" in text
    assert f"- {LAYER}.mlp.up_proj.weight (of PaliGemma/llm/layers/mlp/gating_einsum): expected, found nothing" in text


def test_a_missing_table_is_named_with_both_names(tmp_path: Path) -> None:
    """Without the token table the error names it and its tied copy."""
    tensors = named()
    del tensors["model.language_model.embed_tokens.weight"]
    text = refusal(tensors, tmp_path)
    assert "model.language_model.embed_tokens.weight" in text
    assert "lm_head.weight" in text


def test_layers_of_different_shapes_are_listed(tmp_path: Path) -> None:
    """Layers that cannot be stacked are listed with their shapes."""
    text = refusal(named(**{f"{LAYER}.mlp.down_proj.weight": np.ones((56, 87), np.float32)}), tmp_path)
    assert "the tensors of PaliGemma/llm/layers/mlp/linear have different shapes" in text
    assert f"~ {LAYER}.mlp.down_proj.weight: found float32[56, 87]" in text


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("paligemma_with_expert.paligemma.", "use OpenpiPyTorchWeightLoader"),
        ("policy.", "expected for example model.language_model.norm.weight, found policy."),
    ],
)
def test_other_names_are_recognized(tmp_path: Path, prefix: str, words: str) -> None:
    """If no tensor is in its place, the error says what the file looks like."""
    assert words in refusal({prefix + name: array for name, array in named().items()}, tmp_path)


def test_a_language_model_alone_is_recognized(tmp_path: Path) -> None:
    """Gemma without images is not a PaliGemma."""
    start = "model.language_model."
    tensors = {name.replace(start, "model."): array for name, array in named().items() if name.startswith(start)}
    assert "a language model without images" in refusal(tensors, tmp_path)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("float32",), "float32"),
        (("bfloat16",), "bfloat16"),
        (("bfloat16", "float16"), "float32"),
        (("bfloat16", "float32"), "float32"),
        (("float16", "float64"), "float64"),
        (("float32", "int8"), "int8"),
        (("float32", "float8_e4m3fn"), "float8_e4m3fn"),
    ],
)
def test_a_stack_holds_every_layer_exactly(dtypes: tuple[str, ...], expected: str) -> None:
    """Mixed floats are stacked in a dtype that holds both; other dtypes are not hidden by their neighbors."""
    assert _common({np.dtype(name) for name in dtypes}) == np.dtype(expected)


@pytest.mark.parametrize(("rows", "kept"), [(509, 509), (512, 509), (513, 513), (576, 576), (500, 500)])
def test_only_the_added_tokens_are_left_out(tmp_path: Path, rows: int, kept: int) -> None:
    """Only the number of rows that transformers adds is removed; a table of any other size is refused later."""
    table = np.ones((rows, 56), np.float32)
    hugging_face.write_tensors(named(**{"model.language_model.embed_tokens.weight": table}), tmp_path / "release")
    with open_tensors(tmp_path / "release") as tensors:
        assert HuggingFacePaliGemma(tensors, BASE).leaves[TOKEN_TABLE].shape == (kept, 56)


def test_an_index_can_be_named(tmp_path: Path) -> None:
    """The index itself can be passed as the checkpoint."""
    hugging_face.build(BASE_SPEC, tmp_path / "release", shards=2)
    with open_tensors(tmp_path / "release/model.safetensors.index.json") as tensors:
        assert tensors.leaves == leaves_of(named())


def test_a_folder_of_pickles_is_recognized(tmp_path: Path) -> None:
    """If there are only .bin files, the error says why they are not read."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"found pytorch_model.bin; .* pickles"), open_tensors(tmp_path):
        pass


# The tensors of huggingface.co/google/paligemma-3b-pt-224.
SINGLE = {
    "language_model.model.embed_tokens.weight": (257216, 2048),
    "language_model.model.norm.weight": (2048,),
    "multi_modal_projector.linear.weight": (2048, 1152),
    "multi_modal_projector.linear.bias": (2048,),
    "vision_tower.vision_model.embeddings.patch_embedding.weight": (1152, 3, 14, 14),
    "vision_tower.vision_model.embeddings.patch_embedding.bias": (1152,),
    "vision_tower.vision_model.embeddings.position_embedding.weight": (256, 1152),
    "vision_tower.vision_model.post_layernorm.weight": (1152,),
    "vision_tower.vision_model.post_layernorm.bias": (1152,),
}
LANGUAGE_LAYER = {
    "input_layernorm.weight": (2048,),
    "post_attention_layernorm.weight": (2048,),
    "self_attn.q_proj.weight": (2048, 2048),
    "self_attn.k_proj.weight": (256, 2048),
    "self_attn.v_proj.weight": (256, 2048),
    "self_attn.o_proj.weight": (2048, 2048),
    "mlp.gate_proj.weight": (16384, 2048),
    "mlp.up_proj.weight": (16384, 2048),
    "mlp.down_proj.weight": (2048, 16384),
}
VISION_LAYER = {
    **{f"layer_norm{n}.{part}": (1152,) for n in (1, 2) for part in ("weight", "bias")},
    **{f"self_attn.{name}_proj.weight": (1152, 1152) for name in ("q", "k", "v", "out")},
    **{f"self_attn.{name}_proj.bias": (1152,) for name in ("q", "k", "v", "out")},
    "mlp.fc1.weight": (4304, 1152),
    "mlp.fc1.bias": (4304,),
    "mlp.fc2.weight": (1152, 4304),
    "mlp.fc2.bias": (1152,),
}


class Headers(Source):
    """Tensors with headers only, in float32."""

    path = Path("paligemma-3b-pt-224")

    def __init__(self) -> None:
        shapes: dict[str, tuple[int, ...]] = dict(SINGLE)
        for prefix, depth, layer in (
            ("language_model.model", 18, LANGUAGE_LAYER),
            ("vision_tower.vision_model.encoder", 27, VISION_LAYER),
        ):
            shapes |= {f"{prefix}.layers.{n}.{name}": shape for n in range(depth) for name, shape in layer.items()}
        self.leaves = {name: Leaf(shape, np.dtype(np.float32)) for name, shape in shapes.items()}

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        raise AssertionError(f"{path} is read although only shapes are asked for")


def test_the_real_release_fits_the_real_model() -> None:
    """The headers of the public release give exactly openpi's shapes of PaliGemma, and 64 added tokens."""
    model = get_config("pi0_libero_low_mem_finetune").model
    expected = {path: Leaf(x.shape, np.dtype(x.dtype)) for path, x in model.param_spec().items() if in_paligemma(path)}
    added = {"language_model.model.embed_tokens.weight[257152:]": Leaf((64, 2048), np.dtype(np.float32))}
    assert HuggingFacePaliGemma(Headers(), model).leaves == expected | added
