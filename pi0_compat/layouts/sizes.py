"""Read the sizes of a model from the shapes of its parameters, as far as they show them.

The result is a part of what ``Pi0Config.to_json`` returns. No shape shows the compute dtype, the length of an action
chunk or of a prompt, or alpha. PyTorch merges heads into one axis, so ``torch.sizes`` takes their number from a
``config.json`` or from the named variant of the same sizes.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pi0_compat.errors import LoadError
from pi0_compat.lora.sites import adapter_of
from pi0_compat.model import specs
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import EXPERTS, GemmaSpec, SiglipSpec
from pi0_compat.model.variants import tiny_siglip
from pi0_compat.params import Leaf
from pi0_compat.paths import PATCH_KERNEL, POSITION_TABLE, TOKEN_TABLE, expert_of, families_of, is_adapter

Sizes = dict[str, Any]


# Prompts and action chunks can be of any length; these are openpi's.
_UNKNOWN = {"action_horizon": 50, "max_token_len": 48, "dtype": "bfloat16"}
_GROUPS = {"attn": "attention", "ffn": "feed-forward"}
PARTS = {"siglip": "image encoder", "paligemma": "language model", "action_expert": "action expert"}
_LLM, _IMG = "PaliGemma/llm", "PaliGemma/img"
_BLOCKS = f"{_IMG}/Transformer/encoderblock"


def sizes_of(leaves: Mapping[str, Leaf]) -> Sizes:
    """Return the sizes of a model with these parameters; sizes that they do not show are left out.

    Args:
      leaves: path -> shape and dtype, under openpi's names.

    Returns:
      ``family``, if the names allow a single one, ``vocab_size``, ``image_size`` (pixels) and ``action_dim``;
      ``siglip``, ``paligemma`` and ``action_expert`` with the fields of ``specs``.
    """
    # An array without values, or without axes where a parameter has some, says nothing about a model.
    shapes = {path: leaf.shape for path, leaf in leaves.items() if 0 not in leaf.shape}
    families = families_of(leaves)
    sizes: Sizes = {"family": families[0]} if len(families) == 1 else {}
    if table := _of_rank(2, shapes.get(TOKEN_TABLE)):
        sizes["vocab_size"] = table[0]
    sizes |= _image_size(shapes)
    parts = {"siglip": _siglip(shapes), "paligemma": _gemma(shapes, ""), "action_expert": _gemma(shapes, "_1")}
    sizes |= {name: part for name, part in parts.items() if part}
    if kernel := _of_rank(2, shapes.get("action_in_proj/kernel")):
        sizes["action_dim"] = kernel[0]
    return sizes


def ranks_of(leaves: Mapping[str, Leaf]) -> dict[str, int]:
    """Return the rank of every adapter, by the path of the weight that it adapts."""
    found = {path: adapter_of(path) for path in leaves if is_adapter(path)}
    return {
        adapter.weight: leaves[path].shape[-1]
        for path, adapter in found.items()
        if adapter and path == adapter.a and leaves[path].shape
    }


def model_of(sizes: Sizes, leaves: Mapping[str, Leaf], path: object) -> Pi0Spec:
    """Return a model of these sizes, for reading a checkpoint without an action expert or a recorded alpha.

    Missing parts are made up: an action expert like the language model, unless the family has none, and alpha equal to
    rank.

    Args:
      sizes: what ``sizes_of`` or ``torch_sizes`` returned.
      leaves: the checkpoint's parameters, for the ranks of its adapters.
      path: the checkpoint, for messages.

    Raises:
      LoadError: a size that reading depends on is unknown; the message names it.
    """
    paligemma = sizes.get("paligemma", {})
    missing = [f"paligemma.{name}" for name in _names(GemmaSpec) if name not in paligemma]
    expert: Any = sizes.get("action_expert", paligemma)
    missing += [f"action_expert.{name}" for name in _names(GemmaSpec) if name not in expert and name in paligemma]
    missing += [f"siglip.{name}" for name in _names(SiglipSpec) if name not in sizes.get("siglip", _SOME_SIGLIP)]
    missing += ["vocab_size"] if "vocab_size" not in sizes else []
    if missing:
        raise LoadError(
            f"{path}: {', '.join(missing)} cannot be read from its shapes; name the model: --config or --config-file"
        )
    siglip = sizes.get("siglip", _SOME_SIGLIP)
    experts = {"paligemma": paligemma}
    if sizes.get("family") != "pi0_fast":
        experts["action_expert"] = expert
    described = (
        {"family": "pi0", "image_size": siglip["patch_size"], "action_dim": 1, **_UNKNOWN}
        | {key: value for key, value in sizes.items() if key not in experts}
        | {"siglip": siglip}
        | {name: {**part, "lora": _lora_json(leaves, number)} for number, (name, part) in enumerate(experts.items())}
    )
    try:
        return Pi0Spec.from_json(described)
    except ValueError as error:
        raise LoadError(
            f"{path}: its shapes are of no model ({error}); name the one it should be: --config or --config-file"
        ) from error


def sizes_apart(sizes: Sizes, ranks: Mapping[str, int], model: Pi0Spec) -> list[str]:
    """Return how the sizes of a checkpoint differ from a model's, a line for each part: sizes, then ranks.

    Args:
      sizes: the checkpoint's, from ``sizes_of`` or ``torch_sizes``; unknown ones are not compared.
      ranks: the checkpoint's, from ``ranks_of``.
      model: the model to compare with.
    """
    config = model.to_json()
    parts: dict[str, list[str]] = {}
    for name in ("vocab_size", "image_size", "action_dim"):
        if sizes.get(name, config[name]) != config[name]:
            parts.setdefault("model", []).append(_apart(name, sizes[name], config[name]))
    for part, words in PARTS.items():
        for name, found in sizes.get(part, {}).items() if config[part] else ():
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


def _rank(model: Pi0Spec, expert: int, group: str) -> int | None:
    """Return the rank of the model's adapters there; None if it has none, or no such expert."""
    spec = getattr(model.experts[expert], f"lora_{group}") if expert < len(model.experts) else None
    return spec.rank if spec else None


def _names(kind: type[specs.Spec]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.name != "lora"]


_SOME_SIGLIP = tiny_siglip().to_json()


def _lora_json(leaves: Mapping[str, Leaf], expert: int) -> dict[str, Any] | None:
    """Return the adapters of an expert as a spec has them, alpha equal to rank."""
    groups: dict[str, Any] = {}
    for weight, rank in ranks_of(leaves).items():
        adapter = adapter_of(weight)
        if adapter and expert_of(weight) == expert:
            groups[adapter.site.group] = {"rank": rank, "alpha": float(rank)}
    return groups or None


def _image_size(shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    positions, patches = _of_rank(3, shapes.get(POSITION_TABLE)), _of_rank(4, shapes.get(PATCH_KERNEL))
    if not positions or not patches:
        return {}
    return {"image_size": math.isqrt(positions[1]) * patches[0]}


def _siglip(shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    dense, query = f"{_BLOCKS}/MlpBlock_0/Dense_0/kernel", f"{_BLOCKS}/MultiHeadDotProductAttention_0/query/kernel"
    sizes: Sizes = {}
    if dense in shapes and len(shapes[dense]) == 3:
        sizes["depth"], sizes["width"], sizes["mlp_dim"] = shapes[dense]
    if query in shapes and len(shapes[query]) == 4:
        sizes["num_heads"] = shapes[query][2]
    if patches := _of_rank(4, shapes.get(PATCH_KERNEL)):
        sizes["patch_size"] = patches[0]
    return sizes


def _gemma(shapes: Mapping[str, tuple[int, ...]], suffix: str) -> Sizes:
    attention = f"{_LLM}/layers/attn"
    sizes: Sizes = {}
    if linear := _of_rank(3, shapes.get(f"{_LLM}/layers/mlp{suffix}/linear")):
        sizes["depth"], sizes["mlp_dim"], sizes["width"] = linear
    if out := _of_rank(4, shapes.get(f"{attention}/attn_vec_einsum{suffix}/w")):
        sizes["depth"], sizes["num_heads"], sizes["head_dim"], sizes["width"] = out
    if f"{attention}/qkv_einsum{suffix}/w" in shapes and "num_heads" in sizes:
        sizes["num_kv_heads"] = sizes["num_heads"]
    elif kv := _of_rank(5, shapes.get(f"{attention}/kv_einsum{suffix}/w")):
        sizes["num_kv_heads"] = kv[2]
    return sizes


def _of_rank(rank: int, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return shape if shape and len(shape) == rank else None
