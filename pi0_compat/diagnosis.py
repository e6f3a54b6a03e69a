"""Why parameters do not fit a model, in words, and the way out; for checkpoints and for parameters in memory."""

import math
import re
from collections.abc import Collection, Mapping

from pi0_compat.params import Differences, Leaf
from pi0_compat.paths import (
    PATCH_KERNEL,
    POSITION_TABLE,
    TOKEN_TABLE,
    detect_family,
    families_of,
    is_adapter,
    looks_like_an_adapter,
)

# Components of names that only the later versions have, in big_vision's, gemma's and Hugging Face's words; Gemma 3
# has those of Gemma 2 as well.
_LATER = (
    ("Gemma 3n", re.compile(r"(^|[./_])(altup|laurel)([./_]|$)")),
    ("Gemma 4", re.compile(r"(^|[./])(layer_scalar|skip_scale)$")),
    ("Gemma 3", re.compile(r"(^|[./_])(query_norm|key_norm|q_norm|k_norm)([./]|$)")),
    (
        "Gemma 2, as PaliGemma 2 has it",
        re.compile(r"(^|[./])(post_attention_norm|post_ffw_norm|(pre|post)_feedforward_layernorm)([./]|$)"),
    ),
)
_LAYERS = {
    "the image encoder": "PaliGemma/img/Transformer/encoderblock/LayerNorm_0/scale",
    "the language model": "PaliGemma/llm/layers/pre_attention_norm/scale",
}


# A layer's number as a component of its own, or behind the name of its module.
_ONE_LAYER = re.compile(r"/(layers?|blocks?|encoderblock)[/_]\d+(/|$)")
_PROJECTION = "action_in_proj/kernel"


def advice(family: str, paths: Collection[str], wrong: Differences) -> str:
    """The likely reason for the differences, and what to do.

    Args:
      family: the model's.
      paths: the parameters that are there.
      wrong: how they differ from the model's.
    """
    if not paths:
        return "there are no parameters at all"
    found, allowed = detect_family(paths), families_of(paths)
    # An official PaliGemma has no projections, and a loader that reads one does not miss them.
    whole = _PROJECTION in paths or _PROJECTION in wrong.missing
    if whole and allowed and family not in allowed:
        return f"these are parameters of {found}, the config is {family}: choose the config of that family"
    if wrong.missing and (apart := sorted(filter(_ONE_LAYER.search, wrong.unexpected))):
        return (
            f"{len(apart)} parameters are of single layers, for example {apart[0]}: layers are stored one by one, and "
            "are expected stacked along the first axis of one array: stack them in order (numpy.stack), and save them "
            "with save_params"
        )
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


def later_version(names: Collection[str]) -> str | None:
    """Which later Gemma the parameters or tensors of these names are of, and what gives it away; None for the first."""
    for version, mark in _LATER:
        if marked := sorted(name for name in names if mark.search(name)):
            return (
                f"this is {version}: it has {marked[0]}. pi0 is built on PaliGemma 1, whose language model is Gemma 1; "
                "use that one"
            )
    return None


def generation(names: Collection[str]) -> str:
    """Gemma 1, 2 or 3: which of them the language model of these parameters or tensors is."""
    for version, mark in _LATER:
        if any(map(mark.search, names)):
            return version.partition(",")[0]
    return "Gemma 1"


def other_sizes(expected: Mapping[str, Leaf], found: Mapping[str, Leaf]) -> list[str]:
    """What sets a checkpoint apart from the model where shapes differ: image size, vocabulary, widths, depths."""
    shared = {path: (expected[path].shape, found[path].shape) for path in expected.keys() & found.keys()}
    both = {path: shapes for path, shapes in shared.items() if len(shapes[0]) == len(shapes[1])}
    words = _resolution(both)
    if TOKEN_TABLE in both:
        (tokens, width), (other_tokens, other_width) = both[TOKEN_TABLE]
        words += _apart("a vocabulary of {} tokens", other_tokens, tokens)
        words += _apart("a language model of width {}", other_width, width)
    for tower, path in _LAYERS.items():
        if path in both:
            words += _apart(f"{{}} layers in {tower}", both[path][1][0], both[path][0][0])
    return words


def _resolution(shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> list[str]:
    """Image sizes, where the position embeddings differ in number and nothing else."""
    if POSITION_TABLE not in shapes or PATCH_KERNEL not in shapes:
        return []
    (_, model_patches, width), (_, patches, other_width) = shapes[POSITION_TABLE]
    if patches == model_patches or width != other_width or math.isqrt(patches) ** 2 != patches:
        return []
    patch_size = shapes[PATCH_KERNEL][1][0]
    sizes = [math.isqrt(number) * patch_size for number in (patches, model_patches)]
    apart = f"position embeddings for images of {sizes[0]} pixels, the model has {sizes[1]}"
    return [f"{apart} (the loaders of PaliGemma resample them if asked: resample_positions=True)"]


def _apart(words: str, found: int, expected: int) -> list[str]:
    return [] if found == expected else [f"{words.format(found)}, the model has {expected}"]
