"""Read the sizes of a model from PyTorch's tensor names and shapes, and from a ``config.json``."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pi0_compat.layouts.lerobot.recognize import policy_family
from pi0_compat.layouts.sizes import Sizes
from pi0_compat.layouts.torch.openpi import family_of
from pi0_compat.layouts.torch.openpi_names import plain_name
from pi0_compat.model.specs import EXPERTS
from pi0_compat.model.variants import GEMMA_VARIANTS, SIGLIP_VARIANTS
from pi0_compat.params import Leaf


def torch_sizes(tensors: Mapping[str, Leaf], recorded: Mapping[str, Any]) -> Sizes:
    """Return the sizes of a PaliGemma, a Gemma or an openpi model whose tensors have PyTorch's names.

    Args:
      tensors: name -> shape and dtype.
      recorded: its ``config.json``, of transformers or ours; may be empty.

    Returns:
      As ``sizes_of``; sizes that neither shows are left out.
    """
    family = family_of(plain_name(name) for name in tensors) or policy_family(recorded)
    sizes: Sizes = {"family": family} if family else {}
    for layer in sorted(name for name in tensors if name.endswith(".layers.0.mlp.gate_proj.weight")):
        expert = EXPERTS["gemma_expert" in layer]
        part = _torch_gemma(tensors, layer.removesuffix("0.mlp.gate_proj.weight"))
        sizes[expert] = _with_heads(part, _recorded_part(recorded, expert))
    for layer in (name for name in tensors if name.endswith("encoder.layers.0.mlp.fc1.weight")):
        sizes |= _torch_siglip(tensors, layer.removesuffix("encoder.layers.0.mlp.fc1.weight"), recorded)
    for name in sorted(tensors, reverse=True):
        if name.endswith(("embed_tokens.weight", "lm_head.weight")) and "gemma_expert" not in name:
            sizes |= _lengths(tensors, name, "vocab_size", "")
    for name in tensors:
        if name.endswith("action_in_proj.weight"):
            sizes |= _lengths(tensors, name, "", "action_dim")
    return sizes


def _lengths(tensors: Mapping[str, Leaf], name: str, *axes: str) -> Sizes:
    """Return the lengths of a tensor's axes by their names; none if it has other axes, or no values.

    Shapes are a file's to choose: [] and [0] are allowed, and say nothing about a model.
    """
    shape = tensors[name].shape if name in tensors else ()
    if len(shape) != len(axes) or 0 in shape:
        return {}
    return {axis: length for axis, length in zip(axes, shape, strict=True) if axis}


def _torch_gemma(tensors: Mapping[str, Leaf], layers: str) -> Sizes:
    """Return the sizes of the layers with this prefix; heads are merged into one axis."""
    sizes: Sizes = {"depth": _depth(tensors, layers)}
    sizes |= _lengths(tensors, f"{layers}0.mlp.gate_proj.weight", "mlp_dim", "width")
    sizes |= _lengths(tensors, f"{layers}0.self_attn.q_proj.weight", "query", "")
    sizes |= _lengths(tensors, f"{layers}0.self_attn.k_proj.weight", "key", "")
    return sizes


def _depth(names: Iterable[str], layers: str) -> int:
    numbers = re.compile(re.escape(layers) + r"(\d+)\.")
    return 1 + max((int(found[1]) for found in map(numbers.match, names) if found), default=-1)


def _with_heads(part: Sizes, recorded: Mapping[str, Any]) -> Sizes:
    """Return the sizes of an expert with its heads: as recorded, or as the named variant of these sizes has them."""
    query, key = part.pop("query", None), part.pop("key", None)
    known = next((v.to_json() for v in GEMMA_VARIANTS.values() if _is_like(part, v.to_json())), {})
    heads = recorded.get("num_attention_heads") or recorded.get("num_heads") or known.get("num_heads")
    head_dim = recorded.get("head_dim") or (query // heads if query and heads else None)
    if not query or not key or not head_dim or query % head_dim or key % head_dim:
        return part
    return part | {"num_heads": query // head_dim, "num_kv_heads": key // head_dim, "head_dim": head_dim}


def _is_like(part: Sizes, known: Sizes) -> bool:
    return all(known.get(name) == value for name, value in part.items())


def _torch_siglip(tensors: Mapping[str, Leaf], vision: str, recorded: Mapping[str, Any]) -> Sizes:
    part: Sizes = {"depth": _depth(tensors, f"{vision}encoder.layers.")}
    part |= _lengths(tensors, f"{vision}encoder.layers.0.mlp.fc1.weight", "mlp_dim", "width")
    part |= _lengths(tensors, f"{vision}embeddings.patch_embedding.weight", "", "", "", "patch_size")
    known = next((v.to_json() for v in SIGLIP_VARIANTS.values() if _is_like(part, v.to_json())), {})
    ours = _recorded_part(recorded, "siglip")
    if heads := ours.get("num_attention_heads") or ours.get("num_heads") or known.get("num_heads"):
        part["num_heads"] = heads
    positions = _lengths(tensors, f"{vision}embeddings.position_embedding.weight", "number", "")
    if not positions or "patch_size" not in part:
        return {"siglip": part}
    return {"siglip": part, "image_size": math.isqrt(positions["number"]) * part["patch_size"]}


def _recorded_part(recorded: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """Return what a ``config.json`` says about a part; ours has the whole model, transformers' its own terms."""
    theirs = {"paligemma": "text_config", "siglip": "vision_config"}.get(part, "")
    for found in ((recorded.get("model") or {}).get(part), recorded.get(theirs), recorded):
        if isinstance(found, Mapping) and ({"num_heads", "num_attention_heads", "head_dim"} & found.keys()):
            return found
    return {}
