"""Names of openpi's PyTorch tensors as other programs and versions write them, brought back to openpi's own.

Wrappers add a module of their own to names, at the start or in the middle; transformers has moved PaliGemma's modules
twice, before 4.52 and after 5.6, under which lerobot's checkpoints of the time were saved. Values are the same.
"""

import re
from collections.abc import Collection, Mapping

from pi0_compat.paths import TORCH_ROOT

# What torch.compile, DataParallel, lerobot's policies and Lightning put before every name.
_PREFIXES = ("_orig_mod.", "module.", "model.", "_forward_module.", "_fsdp_wrapped_module.", "policy.")
# What FSDP, activation checkpointing and torch.compile put before the module that they wrap.
_INSIDE = re.compile(r"(?<=\.)(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod|_forward_module)\.")
_PALIGEMMA = f"{TORCH_ROOT}.paligemma."
# Where transformers had, and will have, the modules of PaliGemma -> where openpi's version has them.
_MOVED = (
    (re.compile(rf"^{re.escape(_PALIGEMMA)}(vision_tower|multi_modal_projector)\."), rf"{_PALIGEMMA}model.\1."),
    (re.compile(rf"^{re.escape(_PALIGEMMA)}language_model\.model\."), f"{_PALIGEMMA}model.language_model."),
    (re.compile(rf"^{re.escape(_PALIGEMMA)}language_model\.lm_head\."), f"{_PALIGEMMA}lm_head."),
    (re.compile(rf"^{re.escape(_PALIGEMMA)}model\.language_model\.model\."), f"{_PALIGEMMA}model.language_model."),
    (
        re.compile(rf"^{re.escape(_PALIGEMMA)}model\.vision_tower\.(embeddings|encoder|post_layernorm)\."),
        rf"{_PALIGEMMA}model.vision_tower.vision_model.\1.",
    ),
)
_IN_PLACE = ".base_layer."
_MERGE = "merge them in PyTorch (PEFT's merge_and_unload()), save the merged model, and pass that"


def plain_name(raw: str) -> str:
    """Return openpi's name of a tensor: without wrappers, and where openpi's version of transformers has it."""
    name = raw
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    name = _INSIDE.sub("", name)
    for pattern, place in _MOVED:
        name = pattern.sub(place, name)
    return name


def explain_names(names: Mapping[str, str]) -> str | None:
    """Say what tensors are whose names no version of openpi has, and the way out; None if they are openpi's.

    Args:
      names: name without wrappers -> name in the file.
    """
    if inside := sorted(raw for raw in names.values() if _IN_PLACE in raw):
        return (
            f"{len(inside)} tensors have names that PEFT gives to weights beside adapters, for example {inside[0]}; "
            f"the fine-tuning is in adapters that are not here, or were put in place: {_MERGE}"
        )
    if any(name.startswith(f"{TORCH_ROOT}.") for name in names):
        return None
    wrapped = _unknown_prefixes(names.values())
    if not wrapped:
        return None
    example = min(raw for raw in names.values() if raw.startswith(f"{wrapped[0]}{TORCH_ROOT}."))
    return (
        f"the names begin with {wrapped[0]!r}, which a wrapper has left, for example {example}; save the model inside "
        "of it, or rename the tensors without it"
    )


def _unknown_prefixes(names: Collection[str]) -> list[str]:
    """Return what comes before openpi's root in the names that have it, the most frequent first."""
    found = [name.partition(f"{TORCH_ROOT}.")[0] for name in names if f".{TORCH_ROOT}." in name]
    return sorted(set(found), key=lambda prefix: (-found.count(prefix), prefix))
