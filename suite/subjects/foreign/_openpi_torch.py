"""openpi's PyTorch models at the sizes of a spec: its converter, and its own loading of converted files."""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from ._hugging_face_sizes import gemma_sizes, siglip_sizes
from ._openpi_checkout import REAL_VOCABULARY, at_size, config_of, script

# isort: split
import numpy as np
import torch
from openpi.models_pytorch import gemma_pytorch

Params = dict[str, np.ndarray]
Data = dict[str, Any]
LAYOUT = "openpi_pytorch"
BOTH = "paligemma_with_expert"

converter = script("examples/convert_jax_model_to_pytorch.py")


def convert(model: Data, path: str, layout: str, out: str) -> Data:
    """Run the script's conversion of a step's folder, whose params are at ``path``."""
    if layout != LAYOUT:
        raise ValueError(f"openpi converts to {LAYOUT} alone, not to {layout}")
    config = config_of(model)
    with _at_size(model), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        converter.convert_pi0_checkpoint(str(Path(path).parent), config.dtype, out, config)
    return {"warnings": [str(warning.message) for warning in caught]}


def load(model: Data, path: str) -> Params:
    """Load a PyTorch checkpoint into openpi's own PyTorch model; return its tensors under their names in JAX."""
    config = config_of(model)
    with _at_size(model):
        loaded = config.load_pytorch(mock.Mock(model=config), str(Path(path) / "model.safetensors"))
    return _in_jax(model, {name: tensor.numpy() for name, tensor in loaded.state_dict().items()})


@contextlib.contextmanager
def _at_size(model: Data) -> Iterator[None]:
    """Give the converter and the PyTorch models the sizes of the spec too, in the body."""
    if model["vocab_size"] == REAL_VOCABULARY:
        yield
        return

    def slicing(state_dict: Data, config: Any, slice_all: Any = converter.slice_paligemma_state_dict) -> Any:
        for name, value in gemma_sizes(model["paligemma"]).items():
            setattr(config.text_config, name, value)
        for name, value in _vision_sizes(model).items():
            setattr(config.vision_config, name, value)
        return slice_all(state_dict, config)

    def paligemma(config: Any, make: Any = gemma_pytorch.PaliGemmaForConditionalGeneration) -> torch.nn.Module:
        config.text_config.vocab_size = config.image_token_index = config._vocab_size = model["vocab_size"]
        for name, value in _vision_sizes(model).items():
            setattr(config.vision_config, name, value)
        return make(config=config)

    def expert(config: Any, make: Any = gemma_pytorch.GemmaForCausalLM) -> torch.nn.Module:
        config.vocab_size = model["vocab_size"]
        return make(config=config)

    with (
        at_size(model),
        mock.patch.object(converter, "slice_paligemma_state_dict", slicing),
        mock.patch.object(gemma_pytorch, "PaliGemmaForConditionalGeneration", paligemma),
        mock.patch.object(gemma_pytorch, "GemmaForCausalLM", expert),
    ):
        yield


def _vision_sizes(model: Data) -> Data:
    further = {"image_size": model["image_size"], "projection_dim": model["paligemma"]["width"]}
    return siglip_sizes(model["siglip"]) | further


def _in_jax(model: Data, tensors: Params) -> Params:
    """Return tensors under openpi's names in JAX, with JAX's axes."""
    language, vision = f"{BOTH}.paligemma.model.language_model", f"{BOTH}.paligemma.model.vision_tower.vision_model"
    named = {
        "embedding/kernel": np.moveaxis(tensors[f"{vision}.embeddings.patch_embedding.weight"], (0, 1), (3, 2)),
        "embedding/bias": tensors[f"{vision}.embeddings.patch_embedding.bias"],
        "pos_embedding": tensors[f"{vision}.embeddings.position_embedding.weight"][None],
        **_below("Transformer/encoder_norm", _norm(tensors, f"{vision}.post_layernorm")),
        **_below("Transformer/encoderblock", _siglip_layers(model["siglip"], tensors, f"{vision}.encoder.layers")),
        **_below("head", _dense(tensors, f"{BOTH}.paligemma.model.multi_modal_projector.linear")),
    }
    params = _below("PaliGemma/img", named)
    params["PaliGemma/llm/embedder/input_embedding"] = tensors[f"{language}.embed_tokens.weight"]
    for gemma, name, suffix in (("paligemma", language, ""), ("action_expert", f"{BOTH}.gemma_expert.model", "_1")):
        params |= _below("PaliGemma/llm", _gemma(model[gemma], tensors, name, suffix))
    projections = {name.rpartition(".")[0] for name in tensors if not name.startswith(BOTH)}
    return params | {path: x for name in projections for path, x in _below(name, _dense(tensors, name)).items()}


def _below(path: str, params: Params) -> Params:
    return {f"{path}/{name}": array for name, array in params.items()}


def _dense(tensors: Params, name: str) -> Params:
    return {"kernel": tensors[f"{name}.weight"].T, "bias": tensors[f"{name}.bias"]}


def _norm(tensors: Params, name: str) -> Params:
    if f"{name}.dense.weight" in tensors:
        return _below("Dense_0", _dense(tensors, f"{name}.dense"))
    bias = {"bias": tensors[f"{name}.bias"]} if f"{name}.bias" in tensors else {}
    return {"scale": tensors[f"{name}.weight"]} | bias


def _stacked(layers: Iterator[Params]) -> Params:
    first, *others = layers
    return {path: np.stack([array, *(layer[path] for layer in others)]) for path, array in first.items()}


def _siglip_layers(siglip: Data, tensors: Params, name: str) -> Params:
    attention, heads = "MultiHeadDotProductAttention_0", siglip["num_heads"]

    def layer(n: int) -> Params:
        of = functools.partial(_dense, tensors)
        params = _below("LayerNorm_0", _norm(tensors, f"{name}.{n}.layer_norm1"))
        params |= _below("LayerNorm_1", _norm(tensors, f"{name}.{n}.layer_norm2"))
        params |= _below("MlpBlock_0/Dense_0", of(f"{name}.{n}.mlp.fc1"))
        params |= _below("MlpBlock_0/Dense_1", of(f"{name}.{n}.mlp.fc2"))
        for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            dense = of(f"{name}.{n}.self_attn.{theirs}")
            split = {path: array.reshape(*array.shape[:-1], heads, -1) for path, array in dense.items()}
            params |= _below(f"{attention}/{ours}", split)
        out = of(f"{name}.{n}.self_attn.out_proj")
        out["kernel"] = out["kernel"].reshape(heads, -1, out["kernel"].shape[-1])
        return params | _below(f"{attention}/out", out)

    return _stacked(layer(n) for n in range(siglip["depth"]))


def _gemma(gemma: Data, tensors: Params, name: str, suffix: str) -> Params:
    def heads_of(projection: str) -> np.ndarray:
        weight = tensors[projection].T
        return np.moveaxis(weight.reshape(weight.shape[0], -1, gemma["head_dim"]), 1, 0)

    def layer(n: int) -> Params:
        query, key, value = (heads_of(f"{name}.layers.{n}.self_attn.{x}_proj.weight") for x in "qkv")
        fused = len(query) == len(key)
        out, mlp = tensors[f"{name}.layers.{n}.self_attn.o_proj.weight"].T, f"{name}.layers.{n}.mlp"
        return {
            **({f"attn/qkv_einsum{suffix}/w": np.stack([query, key, value])} if fused else {}),
            **({} if fused else {f"attn/q_einsum{suffix}/w": query}),
            **({} if fused else {f"attn/kv_einsum{suffix}/w": np.stack([key, value])}),
            f"attn/attn_vec_einsum{suffix}/w": out.reshape(-1, gemma["head_dim"], out.shape[-1]),
            f"mlp{suffix}/gating_einsum": np.stack([tensors[f"{mlp}.{x}_proj.weight"].T for x in ("gate", "up")]),
            f"mlp{suffix}/linear": tensors[f"{mlp}.down_proj.weight"].T,
            **_below(f"pre_attention_norm{suffix}", _norm(tensors, f"{name}.layers.{n}.input_layernorm")),
            **_below(f"pre_ffw_norm{suffix}", _norm(tensors, f"{name}.layers.{n}.post_attention_layernorm")),
        }

    layers = _below("layers", _stacked(layer(n) for n in range(gemma["depth"])))
    return layers | _below(f"final_norm{suffix}", _norm(tensors, f"{name}.norm"))
