"""Every matrix product of a pi0 or pi05 model, by the parameter path of its matrix: where it sits, what it costs.

Which tokens go where: all cameras' patches through SigLIP, image and prompt tokens (the prefix) through PaliGemma,
state and noisy actions (the suffix) through the action expert; in attention all of them see each other. The sizes of
matrices come from ``fixtures.writers.openpi_layout``, so a matrix of the layout cannot be forgotten.
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

# What a parameter belongs to, by its path; the first match counts.
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
# What the input of a part is computed from; a stack of layers is below itself.
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

_NO_PRODUCT = re.compile(r"(^|/)(bias|scale|pos_embedding|input_embedding)$")
_LORA = re.compile(r"lora_[ab]$")
# The last product of a layer: nothing else in the layer needs its result, so it is not recomputed.
_LAST = re.compile(r"(MlpBlock_0/Dense_1/kernel|/linear|/linear_lora_b)$")
# What PaliGemma's last layer computes for the prefix and nobody reads: all but its keys and values.
_UNREAD = re.compile(r"/(q_einsum|attn_vec_einsum|mlp)/")
_UNREAD_THIRD = "/qkv_einsum/"


class Tokens(NamedTuple):
    """How many tokens of one sample go where; what is masked is computed, and counts."""

    patches: int
    image: int
    prefix: int
    suffix: int
    action: int


@dataclasses.dataclass(frozen=True)
class Product:
    """One matrix product of one sample, over all layers that have it.

    Attributes:
      part: where it sits, a key of ``BELOW``.
      group: the line of a table that it belongs to.
      path: of its matrix; None for attention, whose factors are both activations.
      forward: its FLOPs.
      recomputed: whether a program that keeps only the inputs of layers makes it again on the way back.
      unread: the FLOPs of ``forward`` that neither the loss nor an action depends on.
    """

    part: str
    group: str
    path: str | None
    forward: int
    recomputed: bool
    unread: int = 0


def tokens(spec: ModelSpec) -> Tokens:
    """The tokens of one sample."""
    patches = (spec["image_size"] // spec["siglip"]["patch_size"]) ** 2
    image, action = len(CAMERAS) * patches, spec["action_horizon"]
    return Tokens(
        patches=patches,
        image=image,
        prefix=image + spec["max_token_len"],
        # pi05 has the state in the prompt.
        suffix=action + (spec["family"] == "pi0"),
        action=action,
    )


def part_of(path: str) -> str:
    """The part of the model that a parameter belongs to, a key of ``BELOW`` or "embedder"."""
    for pattern, part in _PARTS:
        if re.match(pattern, path):
            return part
    raise ValueError(f"{path}: no part of a pi0 or pi05 model has such a parameter; a new one needs a line in _PARTS")


def is_lora(path: str) -> bool:
    """Whether the parameter is a matrix of an adapter."""
    return bool(_LORA.search(path))


def expert_of(path: str) -> str | None:
    """The expert of the language model that a parameter belongs to, as specs name it; None for neither."""
    if not path.startswith("PaliGemma/llm/"):
        return None
    modules = path.removesuffix("/Dense_0/kernel").removesuffix("/Dense_0/bias").split("/")
    return _EXPERTS[any(module.endswith("_1") for module in modules)]


def matrix_products(spec: ModelSpec) -> Iterator[Product]:
    """The products with matrices that are parameters."""
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
            unread=_unread(path, forward, shape) if part == "paligemma" else 0,
        )


def vision_attention(spec: ModelSpec) -> Product:
    """The attention of SigLIP: the patches of a camera to each other."""
    siglip, seen = spec["siglip"], tokens(spec)
    forward = 4 * seen.image * seen.patches * siglip["width"] * siglip["depth"]
    return Product("vision", "siglip attention", None, forward, recomputed=True)


def joint_attention(spec: ModelSpec, part: str, queries: int, keys: int) -> Product:
    """The attention of one expert's tokens, ``part``, to ``keys`` tokens of either."""
    expert = spec["paligemma"]
    forward = 4 * queries * keys * expert["num_heads"] * expert["head_dim"] * expert["depth"]
    unread = forward // expert["depth"] if part == "paligemma" else 0
    return Product(part, "joint attention", None, forward, recomputed=True, unread=unread)


def _tokens_through(spec: ModelSpec, part: str) -> int:
    seen = tokens(spec)
    if part in ("patches", "vision", "vision_head"):
        return seen.image
    if part in ("action_in", "mix_in", "mix_out", "output"):
        return seen.action
    return {"paligemma": seen.prefix, "action_expert": seen.suffix}.get(part, 1)


def _multiplications(spec: ModelSpec, path: str, shape: Shape) -> int:
    """Of one token with the matrix: its size; the lora_b of an output projection is summed over heads first."""
    if "attn_vec_einsum" in path and path.endswith("lora_b"):
        return math.prod(shape) // spec["paligemma"]["num_heads"]
    return math.prod(shape)


def _is_recomputed(spec: ModelSpec, part: str, path: str) -> bool:
    if part not in ("vision", "paligemma", "action_expert", "modulation") or "final_norm" in path:
        return False
    # pi05 gates what the action expert's layers add, and the gradient of a gate needs what it gates.
    gated = part == "action_expert" and spec["family"] == "pi05"
    return gated or not _LAST.search(path)


def _unread(path: str, forward: int, shape: Shape) -> int:
    depth = shape[0]
    if _UNREAD_THIRD in path:
        return forward // (3 * depth)
    return forward // depth if _UNREAD.search(path) else 0
