"""What a model's sizes are, as far as the shapes of its parameters tell: openpi's names, or PyTorch's tensors.

The result is a part of what ``Pi0Spec.to_json`` gives. Not in any shape: the compute dtype, the length of an action
chunk and of a prompt, and alpha. PyTorch merges heads into one axis, so there their number comes from a ``config.json``
or from the named variant of the same sizes.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from suite.reference import specs
from suite.reference.adapters import adapter_of
from suite.reference.advice import detect_family
from suite.reference.errors import LoadError
from suite.reference.layouts.openpi_pytorch import family_of, plain_name
from suite.reference.params import Leaf, is_adapter
from suite.reference.pi0_config import Pi0Config, expert_of
from suite.reference.specs import EXPERTS, GemmaSpec, SiglipSpec

Sizes = dict[str, Any]


def _gemma_of(width: int, depth: int, mlp_dim: int, num_heads: int, num_kv_heads: int, head_dim: int) -> GemmaSpec:
    return GemmaSpec(
        width=width, depth=depth, mlp_dim=mlp_dim, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim
    )


# openpi's names (models/gemma.py, models/siglip.py at 15a9616), then google-deepmind/gemma's (gm/nn/_gemma.py).
GEMMA_VARIANTS: dict[str, GemmaSpec] = {
    "gemma_2b": specs.gemma_2b(),
    "gemma_300m": specs.gemma_300m(),
    "gemma_7b": _gemma_of(3072, 28, 24_576, 16, 16, 256),
    "gemma2_2b": _gemma_of(2304, 26, 9216, 8, 4, 256),
    "gemma2_9b": _gemma_of(3584, 42, 14_336, 16, 8, 256),
    "gemma2_27b": _gemma_of(4608, 46, 36_864, 32, 16, 128),
    "gemma3_1b": _gemma_of(1152, 26, 6912, 4, 1, 256),
    "gemma3_4b": _gemma_of(2560, 34, 10_240, 8, 4, 256),
    "gemma3_12b": _gemma_of(3840, 48, 15_360, 16, 8, 256),
    "gemma3_27b": _gemma_of(5376, 62, 21_504, 32, 16, 128),
}
SIGLIP_VARIANTS: dict[str, SiglipSpec] = {"So400m/14": specs.siglip_so400m()}
# Prompts and action chunks can be of any length; these are openpi's.
_UNKNOWN = {"action_horizon": 50, "max_token_len": 48, "dtype": "bfloat16"}
_GROUPS = {"attn": "attention", "ffn": "feed-forward"}
PARTS = {"siglip": "image encoder", "paligemma": "language model", "action_expert": "action expert"}
_LLM, _IMG = "PaliGemma/llm", "PaliGemma/img"
_BLOCKS = f"{_IMG}/Transformer/encoderblock"


def sizes_of(leaves: Mapping[str, Leaf]) -> Sizes:
    """The sizes of a model of these parameters, under openpi's names; what they do not tell is not in it.

    ``vocab_size``, ``image_size``, ``action_dim``; ``siglip``, ``paligemma``, ``action_expert``: see ``specs``.
    """
    shapes = {path: leaf.shape for path, leaf in leaves.items()}
    sizes: Sizes = {"family": family} if (family := detect_family(shapes)) in ("pi0", "pi05") else {}
    if table := shapes.get(f"{_LLM}/embedder/input_embedding"):
        sizes["vocab_size"] = table[0]
    sizes |= _image_size(shapes)
    parts = {"siglip": _siglip(shapes), "paligemma": _gemma(shapes, ""), "action_expert": _gemma(shapes, "_1")}
    sizes |= {name: part for name, part in parts.items() if part}
    if kernel := shapes.get("action_in_proj/kernel"):
        sizes["action_dim"] = kernel[0]
    return sizes


def ranks_of(leaves: Mapping[str, Leaf]) -> dict[str, int]:
    """Path of every adapted weight -> the rank of its adapter."""
    found = {path: adapter_of(path) for path in leaves if is_adapter(path)}
    return {
        adapter.weight: leaves[path].shape[-1]
        for path, adapter in found.items()
        if adapter and path == adapter.a and leaves[path].shape
    }


def variant_of(part: Mapping[str, Any]) -> str | None:
    """The name that openpi has for an expert or an image encoder of these sizes."""
    for name, spec in (GEMMA_VARIANTS | SIGLIP_VARIANTS).items():
        known = spec.to_json()
        if "width" in part and all(known.get(key) == value for key, value in part.items() if key != "lora"):
            return name
    return None


def model_of(sizes: Sizes, leaves: Mapping[str, Leaf], path: object) -> Pi0Config:
    """A model of these sizes: what it takes to read a checkpoint that has no action expert, or records no alpha.

    Missing parts are made up: an action expert like the language model, alpha equal to rank.

    Raises:
      LoadError: a size that reading depends on is unknown; the message names it.
    """
    paligemma = sizes.get("paligemma", {})
    missing = [f"paligemma.{name}" for name in _names(GemmaSpec) if name not in paligemma]
    missing += [f"siglip.{name}" for name in _names(SiglipSpec) if name not in sizes.get("siglip", _SOME_SIGLIP)]
    missing += ["vocab_size"] if "vocab_size" not in sizes else []
    if missing:
        raise LoadError(
            f"{path}: {', '.join(missing)} cannot be told from its shapes; name the model: --config or --config-file"
        )
    siglip = sizes.get("siglip", _SOME_SIGLIP)
    experts = {"paligemma": paligemma, "action_expert": sizes.get("action_expert", paligemma)}
    return Pi0Config.from_json(
        {"family": "pi0", "image_size": siglip["patch_size"], "action_dim": 1, **_UNKNOWN}
        | {key: value for key, value in sizes.items() if key not in experts}
        | {"siglip": siglip}
        | {name: {**part, "lora": _lora_json(leaves, number)} for number, (name, part) in enumerate(experts.items())}
    )


def torch_sizes(tensors: Mapping[str, Leaf], recorded: Mapping[str, Any]) -> Sizes:
    """The sizes of a PaliGemma, a Gemma or an openpi model whose tensors have PyTorch's names.

    Args:
      tensors: name -> shape and dtype.
      recorded: what its ``config.json`` says, in transformers' or in our words; may be empty.
    """
    family = family_of(plain_name(name) for name in tensors)
    sizes: Sizes = {"family": family} if family else {}
    for layer in sorted(name for name in tensors if name.endswith(".layers.0.mlp.gate_proj.weight")):
        expert = EXPERTS["gemma_expert" in layer]
        part = _torch_gemma(tensors, layer.removesuffix("0.mlp.gate_proj.weight"))
        sizes[expert] = _with_heads(part, _recorded_part(recorded, expert))
    for layer in (name for name in tensors if name.endswith("encoder.layers.0.mlp.fc1.weight")):
        sizes |= _torch_siglip(tensors, layer.removesuffix("encoder.layers.0.mlp.fc1.weight"), recorded)
    for name in sorted(tensors, reverse=True):
        if name.endswith(("embed_tokens.weight", "lm_head.weight")) and "gemma_expert" not in name:
            sizes["vocab_size"] = tensors[name].shape[0]
    for name in tensors:
        if name.endswith("action_in_proj.weight"):
            sizes["action_dim"] = tensors[name].shape[1]
    return sizes


def sizes_apart(sizes: Sizes, ranks: Mapping[str, int], model: Pi0Config) -> list[str]:
    """What sets a checkpoint apart from a model, a line for each part: sizes that are known, then ranks.

    Args:
      sizes: the checkpoint's, as ``sizes_of`` has them.
      ranks: the checkpoint's, as ``ranks_of`` has them.
      model: what it is compared with.
    """
    config = model.to_json()
    parts: dict[str, list[str]] = {}
    for name in ("vocab_size", "image_size", "action_dim"):
        if sizes.get(name, config[name]) != config[name]:
            parts.setdefault("model", []).append(_apart(name, sizes[name], config[name]))
    for part, words in PARTS.items():
        for name, found in sizes.get(part, {}).items():
            if found != config[part][name]:
                parts.setdefault(words, []).append(_apart(name, found, config[part][name]))
    for weight, rank in ranks.items():
        adapter, expert = adapter_of(weight), expert_of(weight)
        if adapter and expert is not None and (wanted := _rank(model, expert, adapter.site.group)) not in (None, rank):
            words = _apart(f"rank in {_GROUPS[adapter.site.group]}", rank, wanted)
            lines = parts.setdefault(f"LoRA of the {PARTS[EXPERTS[expert]]}", [])
            lines += [] if words in lines else [words]
    return [f"{part}: {', '.join(lines)}" for part, lines in parts.items()]


def _apart(what: str, found: object, expected: object) -> str:
    return f"{what} {found} and not {expected}"


def _rank(model: Pi0Config, expert: int, group: str) -> int | None:
    """The rank that a model has there, if it has an adapter there."""
    spec = getattr(model.experts[expert], f"lora_{group}")
    return spec.rank if spec else None


def _names(kind: type[specs.Spec]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.name != "lora"]


_SOME_SIGLIP = specs.tiny_siglip().to_json()


def _lora_json(leaves: Mapping[str, Leaf], expert: int) -> dict[str, Any] | None:
    """The adapters of an expert, alpha equal to rank."""
    groups: dict[str, Any] = {}
    for weight, rank in ranks_of(leaves).items():
        adapter = adapter_of(weight)
        if adapter and expert_of(weight) == expert:
            groups[adapter.site.group] = {"rank": rank, "alpha": float(rank)}
    return groups or None


def _image_size(shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    positions, patches = shapes.get(f"{_IMG}/pos_embedding"), shapes.get(f"{_IMG}/embedding/kernel")
    if not positions or not patches or len(positions) != 3:
        return {}
    return {"image_size": math.isqrt(positions[1]) * patches[0]}


def _siglip(shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    dense, query = f"{_BLOCKS}/MlpBlock_0/Dense_0/kernel", f"{_BLOCKS}/MultiHeadDotProductAttention_0/query/kernel"
    sizes: Sizes = {}
    if dense in shapes and len(shapes[dense]) == 3:
        sizes["depth"], sizes["width"], sizes["mlp_dim"] = shapes[dense]
    if query in shapes and len(shapes[query]) == 4:
        sizes["num_heads"] = shapes[query][2]
    if patches := shapes.get(f"{_IMG}/embedding/kernel"):
        sizes["patch_size"] = patches[0]
    return sizes


def _gemma(shapes: Mapping[str, tuple[int, ...]], suffix: str) -> Sizes:
    attention = f"{_LLM}/layers/attn"
    sizes: Sizes = {}
    if linear := _of_rank(3, shapes.get(f"{_LLM}/layers/mlp{suffix}/linear")):
        sizes["depth"], sizes["mlp_dim"], sizes["width"] = linear
    if out := _of_rank(4, shapes.get(f"{attention}/attn_vec_einsum{suffix}/w")):
        sizes["depth"], sizes["num_heads"], sizes["head_dim"], sizes["width"] = out
    if f"{attention}/qkv_einsum{suffix}/w" in shapes:
        sizes["num_kv_heads"] = sizes.get("num_heads")
    elif kv := _of_rank(5, shapes.get(f"{attention}/kv_einsum{suffix}/w")):
        sizes["num_kv_heads"] = kv[2]
    return sizes


def _of_rank(rank: int, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return shape if shape and len(shape) == rank else None


def _torch_gemma(tensors: Mapping[str, Leaf], layers: str) -> Sizes:
    """Sizes of the layers whose names begin like this; the heads of an axis are not told apart."""
    sizes: Sizes = {"depth": _depth(tensors, layers)}
    for name, keys in {
        "mlp.gate_proj": ("mlp_dim", "width"),
        "self_attn.q_proj": ("query", ""),
        "self_attn.k_proj": ("key", ""),
    }.items():
        shape = getattr(tensors.get(f"{layers}0.{name}.weight"), "shape", ())
        sizes |= {key: length for key, length in zip(keys, shape, strict=False) if key}
    return sizes


def _depth(names: Iterable[str], layers: str) -> int:
    numbers = re.compile(re.escape(layers) + r"(\d+)\.")
    return 1 + max((int(found[1]) for found in map(numbers.match, names) if found), default=-1)


def _with_heads(part: Sizes, recorded: Mapping[str, Any]) -> Sizes:
    """The sizes of an expert with its heads: from what is recorded, or as the variant of these sizes has them."""
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
    mlp_dim, width = tensors[f"{vision}encoder.layers.0.mlp.fc1.weight"].shape
    part: Sizes = {"depth": _depth(tensors, f"{vision}encoder.layers."), "width": width, "mlp_dim": mlp_dim}
    patches = tensors.get(f"{vision}embeddings.patch_embedding.weight")
    if patches and len(patches.shape) == 4:
        part["patch_size"] = patches.shape[-1]
    known = next((v.to_json() for v in SIGLIP_VARIANTS.values() if _is_like(part, v.to_json())), {})
    ours = _recorded_part(recorded, "siglip")
    if heads := ours.get("num_attention_heads") or ours.get("num_heads") or known.get("num_heads"):
        part["num_heads"] = heads
    positions = tensors.get(f"{vision}embeddings.position_embedding.weight")
    image = {"image_size": math.isqrt(positions.shape[0]) * part["patch_size"]} if positions and patches else {}
    return {"siglip": part} | image


def _recorded_part(recorded: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """What a ``config.json`` says of a part: ours has the whole model, transformers' has its own words."""
    theirs = {"paligemma": "text_config", "siglip": "vision_config"}.get(part, "")
    for found in ((recorded.get("model") or {}).get(part), recorded.get(theirs), recorded):
        if isinstance(found, Mapping) and ({"num_heads", "num_attention_heads", "head_dim"} & found.keys()):
            return found
    return {}
