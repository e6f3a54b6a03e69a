"""What a parameter's path says: an adapter? of which expert? of PaliGemma? of which family?"""

import re
from collections.abc import Collection

from pi0_compat import params as tree

_ADDED_ROWS = re.compile(r"\[\d+:\]$")


_ROOT = "paligemma_with_expert"
UNUSED_HEAD = f"{_ROOT}.gemma_expert.lm_head.weight"


# Adapters under other projects' names too: PEFT's ``lora_A``, Gemma's ``lora/a``. With one unused, fine-tuning is lost.
_ADAPTER_BY_ANY_NAME = re.compile(r"(^|[/._])lora[/._]?[ab]($|[/._])", re.IGNORECASE)


# The components below PaliGemma/llm that belong to the action expert end in this.
_ACTION_EXPERT_SUFFIX = "_1"


def is_adapter(path: str) -> bool:
    """Whether the path is a LoRA matrix: its last component is, or ends in, ``lora_a`` or ``lora_b``.

    Only the last component counts, so ``explorations/kernel`` is none (openpi's ``.*lora.*`` says it is).
    """
    name = path.rsplit("/", 1)[-1]
    return name in ("lora_a", "lora_b") or name.endswith(("_lora_a", "_lora_b"))


def expert_of(path: str) -> int | None:
    """The expert that a parameter belongs to: 0 PaliGemma's language model, 1 the action expert, None neither.

    The components are parsed: openpi's pattern ``.*llm.*_1.*`` takes ``Dense_1`` and ``mlp_10`` for the action
    expert's too.
    """
    keys = tree.split(path)
    if keys[:2] != ("PaliGemma", "llm"):
        return None
    modules = [key for key in keys[2:] if not key.startswith("Dense_")]
    return int(any(key.endswith(_ACTION_EXPERT_SUFFIX) for key in modules))


def detect_family(paths: Collection[str]) -> str:
    """What kind of checkpoint these paths come from, in words for an error message."""
    names = {path.split("/", 1)[0] for path in paths}
    if "time_mlp_in" in names:
        return "pi05"
    if "action_time_mlp_in" in names:
        return "pi0"
    return "pi0-FAST or PaliGemma" if "PaliGemma" in names else "no pi0 model"


def looks_like_an_adapter(path: str) -> bool:
    """Whether a parameter is a LoRA matrix by anybody's naming; ``explorations`` is none."""
    return is_adapter(path) or bool(_ADAPTER_BY_ANY_NAME.search(path))


def in_paligemma(path: str) -> bool:
    """Whether official PaliGemma has the parameter: of its vision encoder or language model, no adapter."""
    return path.startswith("PaliGemma/") and expert_of(path) != 1 and not is_adapter(path)


def in_gemma(path: str) -> bool:
    """Whether official Gemma has the parameter: of PaliGemma's language model, no adapter."""
    return expert_of(path) == 0 and not is_adapter(path)


def is_unused(path: str) -> bool:
    """Whether it is something that a layout has and no model uses: rows that transformers added, a head of openpi's."""
    return path == UNUSED_HEAD or bool(_ADDED_ROWS.search(path))


def _is_unused(name: str) -> bool:
    """Whether a tensor is known to be read by nobody: PyTorch's heads and the rows that transformers adds."""
    return name == UNUSED_HEAD or name.endswith(("lm_head.weight", ":]"))
