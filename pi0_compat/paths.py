"""What the path of a parameter says about it: adapter or not, which expert, which family, used or not."""

import re
from collections.abc import Collection

from pi0_compat import params as tree

# Parameters that several modules look up.
TOKEN_TABLE = "PaliGemma/llm/embedder/input_embedding"
POSITION_TABLE = "PaliGemma/img/pos_embedding"
PATCH_KERNEL = "PaliGemma/img/embedding/kernel"
# What all parameters of the image encoder begin with.
VISION = "PaliGemma/img/"

# The name that all tensors of openpi's PyTorch layout begin with, but for the projections.
TORCH_ROOT = "paligemma_with_expert"
# The output layer of the action expert, which transformers makes and pi0 has no use for (docs/bugs.md#g8).
UNUSED_HEAD = f"{TORCH_ROOT}.gemma_expert.lm_head.weight"
# The output layer of a language model, and a token table that it may be tied to.
_HEAD = re.compile(r"(^|\.)lm_head\.weight$")
_TORCH_TABLE = re.compile(r"(^|\.)embed_tokens\.weight$")
# The readers of Hugging Face's layout name the rows that transformers added to a table by a slice of it.
_ADDED_ROWS = re.compile(r"\[\d+:\]$")

# Adapters under other projects' names too: PEFT's ``lora_A`` and what DoRA adds to it, Gemma's ``lora/a``. With one
# unused, fine-tuning is lost.
_ADAPTER_BY_ANY_NAME = re.compile(
    r"(^|[/._])lora[/._]?([ab]|embedding[/._]?[ab]|magnitude_vector)($|[/._])", re.IGNORECASE
)

# The components below PaliGemma/llm that belong to the action expert end in this.
_ACTION_EXPERT_SUFFIX = "_1"


def is_adapter(path: str) -> bool:
    """Return whether the path is a LoRA matrix: its last component is, or ends in, ``lora_a`` or ``lora_b``.

    Only the last component counts, so ``explorations/kernel`` is none (openpi's ``.*lora.*`` says it is).
    """
    name = path.rsplit("/", 1)[-1]
    return name in ("lora_a", "lora_b") or name.endswith(("_lora_a", "_lora_b"))


def expert_of(path: str) -> int | None:
    """Return the expert that a parameter belongs to: 0 for PaliGemma's language model, 1 for the action expert.

    The components are parsed: openpi's pattern ``.*llm.*_1.*`` takes ``Dense_1`` and ``mlp_10`` for the action
    expert's too. None for what belongs to neither.
    """
    keys = tree.split(path)
    if keys[:2] != ("PaliGemma", "llm"):
        return None
    modules = [key for key in keys[2:] if not key.startswith("Dense_")]
    return int(any(key.endswith(_ACTION_EXPERT_SUFFIX) for key in modules))


def families_of(paths: Collection[str]) -> tuple[str, ...]:
    """Return the kinds of model that parameters of these names may belong to, none if they are of no pi0 model.

    A pi0_fast has the names of a PaliGemma, and with adapters those of the language model of a pi0: what is only a part
    of a model may be of several families.

    Args:
      paths: the names of all parameters.

    Returns:
      Some of ``pi0``, ``pi05``, ``pi0_fast`` and ``PaliGemma``.
    """
    names = {path.split("/", 1)[0] for path in paths}
    if "time_mlp_in" in names:
        return ("pi05",)
    if "action_time_mlp_in" in names:
        return ("pi0",)
    if names & {"action_in_proj", "action_out_proj"} or any(expert_of(path) == 1 for path in paths):
        return ("pi0", "pi05")
    if "PaliGemma" not in names:
        return ()
    if TOKEN_TABLE not in paths or PATCH_KERNEL not in paths:
        return ("pi0", "pi05", "pi0_fast")
    return ("pi0_fast",) if any(map(is_adapter, paths)) else ("pi0_fast", "PaliGemma")


def detect_family(paths: Collection[str]) -> str:
    """Return the family that these paths belong to, or in words those that they may belong to."""
    families = families_of(paths)
    if len(families) < 2:
        return families[0] if families else "no pi0 model"
    *others, last = (family.replace("pi0_fast", "pi0-FAST") for family in families)
    return f"{', '.join(others)} or {last}"


def family_error(paths: Collection[str], family: str) -> str | None:
    """Return why these parameters cannot be of a model of the family, and what to do; None if their names allow it.

    Args:
      paths: the names of all parameters.
      family: the model's.
    """
    allowed = families_of(paths)
    if not allowed or family in allowed or "PaliGemma" in allowed:
        return None
    found = detect_family(paths)
    return f"these are parameters of {found}, the config is {family}: choose the config of that family"


def looks_like_an_adapter(path: str) -> bool:
    """Return whether a parameter is a LoRA matrix by any project's naming; ``explorations`` is not."""
    return is_adapter(path) or bool(_ADAPTER_BY_ANY_NAME.search(path))


def in_paligemma(path: str) -> bool:
    """Return whether official PaliGemma has the parameter: its vision encoder and language model, without adapters."""
    return path.startswith("PaliGemma/") and expert_of(path) != 1 and not is_adapter(path)


def in_gemma(path: str) -> bool:
    """Return whether official Gemma has the parameter: PaliGemma's language model, without adapters."""
    return expert_of(path) == 0 and not is_adapter(path)


def unused_in(paths: Collection[str]) -> set[str]:
    """Return those of a checkpoint's parameters that its layout stores and no model uses.

    These are the action expert's output layer, an output layer that is tied to a token table beside it, and the rows
    that transformers adds to a token table. An output layer without a table beside it is the table.

    Args:
      paths: the names of all parameters of the checkpoint; a tensor that is no parameter has its name in the file.
    """
    has_table = any(path == TOKEN_TABLE or (_TORCH_TABLE.search(path) and not _in_expert(path)) for path in paths)
    return {
        path for path in paths if path == UNUSED_HEAD or _ADDED_ROWS.search(path) or (has_table and _HEAD.search(path))
    }


def _in_expert(name: str) -> bool:
    """Return whether a tensor of openpi's PyTorch layout is the action expert's, whose table nothing is tied to."""
    return name.startswith(f"{TORCH_ROOT}.gemma_expert.")
