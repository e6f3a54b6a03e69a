"""Every matrix product of a pi0, pi05 or pi0-FAST model, by the path of its matrix: its location and its cost.

Patches of all cameras go through SigLIP, image and prompt tokens (the prefix) through PaliGemma, state and noisy
actions (the suffix) through the action expert; attention is joint. A pi0-FAST has its actions in the prompt, no suffix,
and logits of each token of the prompt, from the token table. Matrix sizes come from ``fixtures.writers.openpi_layout``,
so no matrix of the layout is missed.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from fixtures.observations import CAMERAS
from fixtures.params import Shape
from fixtures.specs import ModelSpec
from fixtures.writers import openpi_layout

# Path pattern -> the part that a parameter belongs to; the first match wins.
_PARTS = (
    (r"PaliGemma/img/(embedding|pos_embedding)", "patches"),
    (r"PaliGemma/img/Transformer/", "vision"),
    (r"PaliGemma/img/head/", "vision_head"),
    (r"PaliGemma/llm/embedder/", "embedder"),
    (r"PaliGemma/llm/.*_1/Dense_0/", "modulation"),
    (r"PaliGemma/llm/final_norm", "output"),
    (r"PaliGemma/llm/layers/.*_1/", "action_expert"),
    (r"PaliGemma/llm/layers/", "paligemma"),
    (r"state_proj/", "state"),
    (r"action_in_proj/", "action_in"),
    (r"time_mlp_in/", "time_in"),
    (r"time_mlp_out/", "time_out"),
    (r"action_time_mlp_in/", "mix_in"),
    (r"action_time_mlp_out/", "mix_out"),
    (r"action_out_proj/", "output"),
)
# The prefix is computed without the suffix; the suffix attends to the prefix.
PREFIX = frozenset({"patches", "vision", "vision_head", "embedder", "paligemma"})
SUFFIX = frozenset({"state", "action_in", "time_in", "time_out", "mix_in", "mix_out", "modulation", "action_expert"})
# The parts that a part's input is computed from; a stack of layers is below itself.
BELOW: dict[str, frozenset[str]] = {
    "patches": frozenset(),
    "vision": frozenset({"patches", "vision"}),
    "vision_head": frozenset({"patches", "vision"}),
    "paligemma": PREFIX,
    "state": frozenset(),
    "action_in": frozenset(),
    "time_in": frozenset(),
    "time_out": frozenset({"time_in"}),
    "mix_in": frozenset({"action_in"}),
    "mix_out": frozenset({"action_in", "mix_in"}),
    "modulation": frozenset({"time_in", "time_out"}),
    "action_expert": PREFIX | SUFFIX,
    "output": PREFIX | SUFFIX,
}
_GROUPS = {"patches": "siglip", "vision": "siglip", "vision_head": "siglip", "modulation": "action_expert"}
_EXPERTS = ("paligemma", "action_expert")

TABLE = "PaliGemma/llm/embedder/input_embedding"
_NO_PRODUCT = re.compile(r"(^|/)(bias|scale|pos_embedding|input_embedding)$")
_LORA = re.compile(r"lora_[ab]$")
# The last product of a layer: nothing in the layer reads its result, so it is not recomputed.
_LAST = re.compile(r"(MlpBlock_0/Dense_1/kernel|/linear|/linear_lora_b)$")
# Results of PaliGemma's last layer for the prefix that nothing reads: all but its keys and values.
_UNREAD = re.compile(r"/(q_einsum|attn_vec_einsum|mlp)/")
_UNREAD_THIRD = "/qkv_einsum/"


class Tokens(NamedTuple):
    """Token counts of one sample; masked tokens are computed, so they count."""

    patches: int
    image: int
    prefix: int
    suffix: int
    action: int


@dataclasses.dataclass(frozen=True)
class Product:
    """One matrix product of one sample, over all layers that have it.

    Attributes:
      part: the part of the model, a key of ``BELOW``.
      group: the table row it is added to.
      path: the path of its matrix; None for attention, whose factors are both activations.
      forward: FLOPs of the forward pass.
      recomputed: whether a program that keeps only the inputs of layers recomputes it in the backward pass.
      unread: the FLOPs of ``forward`` that neither the loss nor an action depends on.
    """

    part: str
    group: str
    path: str | None
    forward: int
    recomputed: bool
    unread: int = 0


def tokens(spec: ModelSpec) -> Tokens:
    """Count the tokens of one sample."""
    patches = (spec["image_size"] // spec["siglip"]["patch_size"]) ** 2
    image, action = len(CAMERAS) * patches, spec["action_horizon"] * ("action_expert" in spec)
    return Tokens(
        patches=patches,
        image=image,
        prefix=image + spec["max_token_len"],
        # The others have the state in the prompt.
        suffix=action + (spec["family"] == "pi0"),
        action=action,
    )


def part_of(path: str) -> str:
    """Return the part of the model that a parameter belongs to: a key of ``BELOW`` or "embedder"."""
    for pattern, part in _PARTS:
        if re.match(pattern, path):
            return part
    raise ValueError(f"{path}: not a parameter of a model; add a line to _PARTS for a new one")


def is_lora(path: str) -> bool:
    """Whether the parameter is a matrix of an adapter."""
    return bool(_LORA.search(path))


def expert_of(path: str) -> str | None:
    """Return the language model's expert that a parameter belongs to, as specs name it, or None."""
    if not path.startswith("PaliGemma/llm/"):
        return None
    modules = path.removesuffix("/Dense_0/kernel").removesuffix("/Dense_0/bias").split("/")
    return _EXPERTS[any(module.endswith("_1") for module in modules)]


def matrix_products(spec: ModelSpec) -> Iterator[Product]:
    """Yield the products with parameter matrices."""
    if "action_expert" not in spec:
        yield logits(spec, spec["max_token_len"])
    for path, shape in openpi_layout.shapes(spec).items():
        if _NO_PRODUCT.search(path):
            continue
        part = part_of(path)
        group = _GROUPS.get(part, part if part in _EXPERTS else "projections")
        forward = 2 * _multiplications(spec, path, shape) * _tokens_through(spec, part)
        yield Product(
            part=part,
            group=f"{group} lora" if is_lora(path) else group,
            path=path,
            forward=forward,
            recomputed=_is_recomputed(spec, part, path),
            unread=_unread(path, forward, shape) if _is_prefix_only(spec, part) else 0,
        )


def logits(spec: ModelSpec, count: int) -> Product:
    """Return the product of ``count`` tokens with the token table, which makes logits of them."""
    forward = 2 * spec["paligemma"]["width"] * spec["vocab_size"] * count
    return Product("output", "logits", TABLE, forward, recomputed=False)


def _is_prefix_only(spec: ModelSpec, part: str) -> bool:
    """Whether a part computes a prefix whose last layer is read by the suffix alone."""
    return part == "paligemma" and "action_expert" in spec


def vision_attention(spec: ModelSpec) -> Product:
    """Return SigLIP's attention among the patches of each camera."""
    siglip, seen = spec["siglip"], tokens(spec)
    forward = 4 * seen.image * seen.patches * siglip["width"] * siglip["depth"]
    return Product("vision", "siglip attention", None, forward, recomputed=True)


def joint_attention(spec: ModelSpec, part: str, queries: int, keys: int) -> Product:
    """Return the attention of ``queries`` tokens of the expert ``part`` to ``keys`` tokens of both experts."""
    expert = spec["paligemma"]
    forward = 4 * queries * keys * expert["num_heads"] * expert["head_dim"] * expert["depth"]
    unread = forward // expert["depth"] if _is_prefix_only(spec, part) else 0
    return Product(part, "joint attention", None, forward, recomputed=True, unread=unread)


def _tokens_through(spec: ModelSpec, part: str) -> int:
    seen = tokens(spec)
    if part in ("patches", "vision", "vision_head"):
        return seen.image
    if part in ("action_in", "mix_in", "mix_out", "output"):
        return seen.action
    return {"paligemma": seen.prefix, "action_expert": seen.suffix}.get(part, 1)


def _multiplications(spec: ModelSpec, path: str, shape: Shape) -> int:
    """Count multiplications per token: the matrix size; an output projection's lora_b acts after the sum over heads."""
    if "attn_vec_einsum" in path and path.endswith("lora_b"):
        return math.prod(shape) // spec["paligemma"]["num_heads"]
    return math.prod(shape)


def _is_recomputed(spec: ModelSpec, part: str, path: str) -> bool:
    if part not in ("vision", "paligemma", "action_expert", "modulation") or "final_norm" in path:
        return False
    # pi05 gates the outputs of the action expert's layers, and a gate's gradient needs the gated value.
    gated = part == "action_expert" and spec["family"] == "pi05"
    return gated or not _LAST.search(path)


def _unread(path: str, forward: int, shape: Shape) -> int:
    depth = shape[0]
    if _UNREAD_THIRD in path:
        return forward // (3 * depth)
    return forward // depth if _UNREAD.search(path) else 0
