"""The least work of a program: FLOPs of its matrix products, and bytes that have to move; a floor of its time.

A product of t tokens with a matrix of P numbers costs ``2 P t`` forward, as much again for the gradient of its input
where something trainable lies below, and as much for its own where it is trainable (arXiv:2204.02311, appendix B).
Attention of T queries to S keys costs ``4 T S heads head_dim`` a layer, masked pairs included. What a program computes
a second time to save memory is left out, as are norms, softmax and the optimizer: a floor has to be below all of it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import GemmaSpec
from pi0_compat.paths import TOKEN_TABLE, VISION, expert_of, is_adapter

_CAMERAS = 3
# Flow-matching steps of one call that serves.
SAMPLING_STEPS = 10
_NO_PRODUCT = ("/bias", "/scale", "/pos_embedding", "/input_embedding")


class Tokens(NamedTuple):
    """Tokens of one sample in joint attention; padding and absent cameras are computed."""

    patches: int
    prefix: int
    suffix: int


def tokens(model: Pi0Spec) -> Tokens:
    """Return the tokens of one sample."""
    patches = (model.image_size // model.siglip.patch_size) ** 2
    suffix = 0 if model.family == "pi0_fast" else model.action_horizon + (model.family == "pi0")
    return Tokens(patches, _CAMERAS * patches + model.max_token_len, suffix)


def training_flops(model: Pi0Spec, is_frozen: Callable[[str], bool]) -> int:
    """Return the FLOPs of one sample of a step, forward and backward.

    Args:
      model: the sizes.
      is_frozen: whether training leaves the parameter of a path alone.
    """
    spec = model.param_spec()
    trained = {_stack(path) for path in spec if not is_frozen(path)}
    below = {
        "vision": "vision" in trained,
        "prefix": bool({"vision", "prefix"} & trained),
        "suffix": bool(trained),
        "heads": bool(trained),
    }
    total = 0
    for path, leaf in spec.items():
        forward = _product(model, path, leaf.shape)
        total += forward * (1 + below[_stack(path)] + (not is_frozen(path)))
    seen = tokens(model)
    total += _vision_attention(model) * (1 + 2 * below["vision"])
    total += _joint_attention(model.paligemma, seen.prefix, seen.prefix + seen.suffix) * (1 + 2 * below["prefix"])
    total += _joint_attention(model.paligemma, seen.suffix, seen.prefix + seen.suffix) * (1 + 2 * below["suffix"])
    if model.action_expert is None:
        # The tied token table writes the logits of the prompt.
        total += _logits(model, model.max_token_len) * (2 + (not is_frozen(TOKEN_TABLE)))
    return total


def serving_flops(model: Pi0Spec) -> int:
    """Return the FLOPs of one sample of a call: the prefix once, then every flow-matching step, or every token."""
    seen = tokens(model)
    total = _vision_attention(model) + _joint_attention(model.paligemma, seen.prefix, seen.prefix)
    for path, leaf in model.param_spec().items():
        times = 1 if _stack(path) in ("vision", "prefix") else SAMPLING_STEPS
        total += times * _product(model, path, leaf.shape)
    if model.action_expert is not None:
        return total + SAMPLING_STEPS * _joint_attention(model.paligemma, seen.suffix, seen.prefix + seen.suffix)
    # The first token may end it: what is certain is the prefix, and one row of logits.
    return total + _logits(model, 1)


def training_bytes(model: Pi0Spec, resident: list[dict[str, object]]) -> int:
    """Return the bytes that one step moves at least: what stays is read, and what is trained written, once.

    Args:
      model: the sizes; of the token table only some rows are read.
      resident: rows of what stays, as ``pi0_compat.planning.child.answer`` returns them.
    """
    read = sum(int(str(row["device_bytes"])) for row in resident)
    written = sum(int(str(row["device_bytes"])) for row in resident if row["trainable"])
    return max(read + written - 4 * model.vocab_size * model.paligemma.width, 0)


def serving_bytes(model: Pi0Spec, resident: list[dict[str, object]]) -> int:
    """Return the bytes that one call moves at least: the parameters, and the action expert's again in every step."""
    table = 2 * model.vocab_size * model.paligemma.width
    read = {str(row["part"]): int(str(row["device_bytes"])) for row in resident}
    return max(sum(read.values()) - table + (SAMPLING_STEPS - 1) * read.get("action expert", 0), 0)


def in_vision(path: str) -> bool:
    """Return whether a parameter is the image encoder's."""
    return path.startswith(VISION)


def _stack(path: str) -> str:
    """Return which of the stacks, each computed from those before, a parameter is in."""
    if path.startswith(VISION):
        return "vision"
    if (expert := expert_of(path)) is None:
        return "heads"
    return ("prefix", "suffix")[expert]


def _product(model: Pi0Spec, path: str, shape: tuple[int, ...]) -> int:
    """Return the FLOPs of a parameter's product with one sample, forward."""
    if path.endswith(_NO_PRODUCT):
        return 0
    seen, stack = tokens(model), _stack(path)
    if stack == "vision":
        through = _CAMERAS * seen.patches
    elif stack == "prefix":
        through = seen.prefix
    elif "/Dense_0/" in path or path.startswith(("state_proj", "time_mlp")):
        through = 1
    else:
        through = seen.suffix if stack == "suffix" else model.action_horizon
    size = math.prod(shape)
    if is_adapter(path) and "attn_vec_einsum" in path and path.endswith("lora_b"):
        # It acts once, on the sum over heads (``pi0_compat.model.sites``).
        size //= model.paligemma.num_heads
    return 2 * size * through


def _vision_attention(model: Pi0Spec) -> int:
    seen, siglip = tokens(model), model.siglip
    return 4 * _CAMERAS * seen.patches * seen.patches * siglip.width * siglip.depth


def _joint_attention(expert: GemmaSpec, queries: int, keys: int) -> int:
    return 4 * queries * keys * expert.num_heads * expert.head_dim * expert.depth


def _logits(model: Pi0Spec, length: int) -> int:
    return 2 * length * model.vocab_size * model.paligemma.width
