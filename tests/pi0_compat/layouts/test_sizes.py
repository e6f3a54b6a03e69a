"""Sizes from shapes: of openpi's parameters, of PyTorch's tensors, and the names of known variants."""

from typing import Any

import numpy as np
import pytest

from fixtures import golden_cases, specs
from fixtures.writers import openpi_layout, openpi_pytorch
from pi0_compat.errors import LoadError
from pi0_compat.layouts.sizes import model_of, ranks_of, sizes_apart, sizes_of
from pi0_compat.layouts.torch.sizes import torch_sizes
from pi0_compat.model.variants import GEMMA_VARIANTS, variant_of
from pi0_compat.params import Leaf, leaves_of
from pi0_compat.training.configs import get_config

FULL = golden_cases.full_size()
TABLE = specs.tiny_table() | {"pi0_fast": specs.tiny("pi0_fast", num_kv_heads=2)}


def leaves(spec: specs.ModelSpec) -> dict[str, Leaf]:
    return {path: Leaf(shape, np.dtype(np.float32)) for path, shape in openpi_layout.shapes(spec).items()}


@pytest.mark.parametrize("name", FULL)
def test_real_sizes_are_known(name: str) -> None:
    """openpi's own declaration of shapes gives openpi's sizes and the names of its variants."""
    sizes = sizes_of({path: Leaf(shape, np.dtype(dtype)) for path, (shape, dtype) in FULL[name].parameters.items()})
    variants = {"siglip": "So400m/14", "paligemma": "gemma_2b", "action_expert": "gemma_300m"}
    wanted: dict[str, Any] = {**FULL[name].spec}
    assert sizes.keys() & variants == wanted.keys() & variants
    for part in wanted.keys() & variants:
        assert sizes[part] == {key: value for key, value in wanted[part].items() if key != "lora"}
        assert variant_of(sizes[part]) == variants[part]
    assert (sizes["vocab_size"], sizes["image_size"]) == (257152, 224)
    # No parameter of a pi0-FAST shows the length of an action.
    assert sizes.get("action_dim") == (32 if "action_expert" in wanted else None)


@pytest.mark.parametrize("name", FULL)
def test_a_family_is_known_from_names_that_only_it_has(name: str) -> None:
    """A pi0-FAST without adapters has the names of a PaliGemma, so its family is not known."""
    sizes = sizes_of({path: Leaf(shape, np.dtype(dtype)) for path, (shape, dtype) in FULL[name].parameters.items()})
    assert sizes.get("family") == (None if name == "pi0_fast_libero" else FULL[name].spec["family"])


@pytest.mark.parametrize("name", TABLE)
def test_a_model_of_these_sizes_has_these_parameters(name: str) -> None:
    """A model with the computed sizes has the original paths and shapes, adapters included."""
    spec = specs.with_lora(TABLE[name])
    original = leaves(spec)
    model = model_of(sizes_of(original), original, "here")
    assert {path: leaf.shape for path, leaf in leaves_of(model.param_spec()).items()} == openpi_layout.shapes(spec)


def test_ranks() -> None:
    """Each adapted weight has its adapter's rank."""
    ranks = ranks_of(leaves(specs.tiny(lora="both")))
    assert len(ranks) == 10
    assert ranks["PaliGemma/llm/layers/attn/q_einsum/w"] == 4
    assert ranks["PaliGemma/llm/layers/mlp_1/linear"] == 15


def torch_tensors(spec: specs.ModelSpec) -> dict[str, Leaf]:
    params = {path: np.broadcast_to(np.float32(0), shape) for path, shape in openpi_layout.shapes(spec).items()}
    return leaves_of(openpi_pytorch.tensors(params))


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_torch_shapes_do_not_have_head_sizes(family: specs.Family) -> None:
    """PyTorch's tensors give every size but the heads'; our config.json or transformers' gives those too."""
    spec = specs.tiny(family, num_kv_heads=2)
    tensors = torch_tensors(spec)
    alone = torch_sizes(tensors, {})
    assert alone["family"] == family
    assert "head_dim" not in alone["paligemma"]
    assert "num_heads" not in alone["siglip"]
    ours = torch_sizes(tensors, {"model": spec})
    assert ours == sizes_of(leaves(spec))
    theirs = {"text_config": {"num_attention_heads": 6}, "vision_config": {"num_attention_heads": 5}}
    assert torch_sizes(tensors, theirs)["paligemma"] == ours["paligemma"]
    assert torch_sizes(tensors, theirs)["siglip"] == ours["siglip"]


def test_the_names_of_tensors_may_have_prefixes() -> None:
    """The prefix that torch.compile adds to every name changes nothing."""
    spec = specs.tiny("pi05")
    compiled = {f"_orig_mod.{name}": leaf for name, leaf in torch_tensors(spec).items()}
    assert torch_sizes(compiled, {"model": spec}) == sizes_of(leaves(spec))


def test_a_known_variant_has_its_head_sizes() -> None:
    """The sizes of a known variant determine its heads without a config."""
    known = GEMMA_VARIANTS["gemma2_2b"]
    shapes = {
        "mlp.gate_proj": (known.mlp_dim, known.width),
        "self_attn.q_proj": (known.num_heads * known.head_dim, known.width),
        "self_attn.k_proj": (known.num_kv_heads * known.head_dim, known.width),
    }
    tensors = {
        f"model.layers.{layer}.{name}.weight": Leaf(shape, np.dtype(np.float32))
        for layer in range(known.depth)
        for name, shape in shapes.items()
    }
    sizes = torch_sizes(tensors, {})["paligemma"]
    assert variant_of(sizes) == "gemma2_2b"
    assert sizes == {name: value for name, value in known.to_json().items() if name != "lora"}


def test_unknown_sizes_are_named() -> None:
    """A model cannot be built without heads; the message names the missing sizes."""
    sizes = torch_sizes(torch_tensors(specs.tiny()), {})
    with pytest.raises(LoadError, match=r"^here: paligemma.num_heads, .*, siglip.num_heads cannot be read") as caught:
        model_of(sizes, {}, "here")
    assert str(caught.value).endswith("name the model: --config or --config-file")


def test_a_model_does_not_differ_from_itself() -> None:
    """The sizes and ranks of a config's own parameters are the config's."""
    model = get_config("pi05_libero_low_mem_finetune").model
    own = leaves_of(model.param_spec())
    assert sizes_apart(sizes_of(own), ranks_of(own), model) == []
    assert sizes_apart(sizes_of(own), {"PaliGemma/llm/layers/mlp/linear": 8}, model) == [
        "LoRA of the language model: rank in feed-forward 8 and not 16"
    ]
