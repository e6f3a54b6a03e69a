"""Why parameters do not fit a model, in words, and the way out; for checkpoints and for parameters in memory."""

import re
from collections.abc import Collection

from suite.reference.params import Differences, is_adapter

_PROJECTION = "action_in_proj/kernel"
# Adapters under other projects' names too: PEFT's ``lora_A``, Gemma's ``lora/a``. With one unused, fine-tuning is lost.
_ADAPTER_BY_ANY_NAME = re.compile(r"(^|[/._])lora[/._]?[ab]($|[/._])", re.IGNORECASE)


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


def advice(family: str, paths: Collection[str], wrong: Differences) -> str:
    """The likely reason for the differences, and what to do.

    Args:
      family: the model's.
      paths: the parameters that are there.
      wrong: how they differ from the model's.
    """
    if not paths:
        return "there are no parameters at all"
    found = detect_family(paths)
    # An official PaliGemma has no projections, and a loader that reads one does not miss them.
    whole = _PROJECTION in paths or _PROJECTION in wrong.missing
    if whole and found not in (family, "no pi0 model"):
        return f"these are parameters of {found}, the config is {family}: choose the config of that family"
    if wrong.missing and all(map(is_adapter, wrong.missing)) and not (wrong.unexpected or wrong.mismatched):
        return (
            f"a base checkpoint for a LoRA config: {len(wrong.missing)} adapter matrices are missing. Add fresh ones: "
            "merge_parameters(base, initialize_lora_parameters(base, config, seed=0)), "
            "or load with CheckpointWeightLoader, which does"
        )
    if wrong.unexpected and all(map(looks_like_an_adapter, wrong.unexpected)) and not wrong.missing:
        return (
            f"a LoRA checkpoint for a config without these adapters: {len(wrong.unexpected)} matrices would be lost. "
            "Use the LoRA config it was trained with, or fold them into the base with fold(params, lora_config)"
        )
    return f"the parameters (of {found}) are not those of the config"
