"""Find the matrices of a PEFT adapter, whichever model of pi0 it was trained on, and say what the others are."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pi0_compat.errors import LoadError
from pi0_compat.layouts.torch.peft_settings import MERGE
from pi0_compat.lora.sites import Adapter
from pi0_compat.paths import expert_of

# PEFT wraps a model twice.
PREFIX = "base_model.model."
EXPERT_ROOTS = ("model.vlm.language_model", "model.dit")
_MODULES = {
    "q_einsum": ("self_attn.q_proj",),
    "kv_einsum": ("self_attn.k_proj", "self_attn.v_proj"),
    "qkv_einsum": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn_vec_einsum": ("self_attn.o_proj",),
    "gating_einsum": ("mlp.gate_proj", "mlp.up_proj"),
    "linear": ("mlp.down_proj",),
}
_MATRIX = re.compile(r"^(?P<module>.+)\.lora_(?P<matrix>[AB])(\.default)?\.weight$")
# lerobot's and openpi's names of the experts, after any wrapper, and transformers' of the same.
_ROOTS = {
    re.compile(r"^(.*\.)?paligemma_with_expert\.paligemma\.(model\.language_model|language_model\.model)\."): (
        "model.vlm.language_model."
    ),
    re.compile(r"^(.*\.)?paligemma_with_expert\.gemma_expert\.model\."): "model.dit.",
}
# What openpi has no adapters on, its weights still can take.
WITH_BASE = "merge it into its base: convert --base BASE --to openpi (base=...)"
_KINDS = (
    (re.compile(r"lora_magnitude_vector"), "the magnitudes of a DoRA adapter, without which it is another one", MERGE),
    (re.compile(r"lora_embedding_[AB]"), "an adapter of a token table, for which pi0 has no place", MERGE),
    (
        re.compile(r"\.bias$"),
        "a bias that was trained beside the adapter, for which pi0's adapters have no place",
        MERGE,
    ),
    (re.compile(r"trainable_tokens|modules_to_save"), "a part of the base that was trained whole", MERGE),
    (
        re.compile(r"(action_in_proj|action_out_proj|state_proj|_mlp_in|_mlp_out)\."),
        "an adapter of a projection",
        WITH_BASE,
    ),
    (re.compile(r"vision_tower|multi_modal_projector"), "an adapter of the image encoder", WITH_BASE),
)


class Names(NamedTuple):
    """The tensors of an adapter file.

    Attributes:
      matrices: (module, A or B) -> name in the file; modules as transformers' PI0 calls them.
      modules: module -> its name in the model that it was trained on, which PEFT's patterns are for.
      others: names of all other tensors.
    """

    matrices: dict[tuple[str, str], str]
    modules: dict[str, str]
    others: list[str]


def names_of(path: Path, names: Iterable[str]) -> Names:
    """Return the tensors of a file by module and matrix.

    Raises:
      LoadError: two names are of one matrix.
    """
    found = Names({}, {}, [])
    for name in names:
        if (parts := _MATRIX.match(name)) is None:
            found.others.append(name)
            continue
        raw = parts["module"].removeprefix(PREFIX)
        module = raw
        for root, ours in _ROOTS.items():
            module = root.sub(ours, module)
        place = module, parts["matrix"]
        if place in found.matrices:
            raise LoadError(f"{path}: {name} and {found.matrices[place]} are one matrix; only one can be meant")
        found.matrices[place] = name
        found.modules[module] = raw
    return found


def modules_of(
    adapter: Adapter, depth: int, roots: tuple[str, ...] = EXPERT_ROOTS
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the modules of transformers' PI0 that an adapter is on, and the index of each one's part in its arrays."""
    root, names = roots[expert_of(adapter.weight) or 0], _MODULES[adapter.name]
    for layer in range(depth):
        for part, name in enumerate(names):
            # The projections of a fused one are stacked along the second axis.
            yield f"{root}.layers.{layer}.{name}", (layer, part) if len(names) > 1 else (layer,)


def describe_others(names: Iterable[str]) -> str:
    """Return what tensors that have no place in pi0 are, and the way out; empty if they are of no known kind."""
    for kind, words, way_out in _KINDS:
        if marked := sorted(name for name in names if kind.search(name)):
            return f"; {marked[0]} is {words}: {way_out}"
    return ""
