"""Cases of checkpoints that do not fit their model: other sizes, missing and strange tensors, another version."""

import itertools
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fixtures.damage.operations import safetensors as in_files
from fixtures.layouts import HOLD_FAST, IMG, LLM, Layout
from fixtures.params import Array, Params
from fixtures.specs import Family, ModelSpec, tiny, with_lora
from suite.contracts.fitting import NOT_IN_SHARDS, NOT_TIED, TIED
from suite.writing.asserts import AnyOf
from suite.writing.layouts import Case

# What stands for each part of a model; a layout is asked about those that it holds.
ROLES: dict[str, str] = {
    "projection": f"{LLM}layers/mlp/linear",
    "keys_and_values": f"{LLM}layers/attn/kv_einsum/w",
    "last_norm": f"{LLM}final_norm/scale",
    "token_table": f"{LLM}embedder/input_embedding",
    "vision_bias": f"{IMG}Transformer/encoderblock/LayerNorm_1/bias",
    "positions": f"{IMG}pos_embedding",
    "expert_projection": f"{LLM}layers/mlp_1/linear",
    "action_bias": "action_out_proj/bias",
    "lora_a": f"{LLM}layers/mlp/linear_lora_a",
    "lora_b": f"{LLM}layers/attn/q_einsum_1/lora_b",
}
ADAPTER_OF_A_STRANGER = {
    "openpi_pytorch": "paligemma_with_expert.gemma_expert.model.layers.0.self_attn.q_proj.lora_A.weight",
    "lerobot": "model.paligemma_with_expert.gemma_expert.model.layers.0.self_attn.q_proj.lora_B.default.weight",
    "hugging_face": "model.language_model.layers.0.self_attn.q_proj.lora_A.weight",
    "gemma_flax": "layer_0/attn/q_einsum/_LoRAEinsum_0/lora/a",
}
NO_ADAPTERS = {"paligemma_npz": "no release holds adapters", "peft": "it holds nothing else"}
_ADAPTED = "_for_a_lora_model"
NO_PLACE = {
    **dict.fromkeys(("openpi_pytorch", "lerobot", "hugging_face", "gemma_flax"), "no place for a model's adapters"),
    **NO_ADAPTERS,
}
# The tensors that a later Gemma adds to each layer, under the names of the layout.
LATER: dict[str, dict[str, tuple[str, ...]]] = {
    "hugging_face": {
        "Gemma 2": ("pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight"),
        "Gemma 3": ("self_attn.q_norm.weight", "self_attn.k_norm.weight"),
    },
    "paligemma_npz": {
        "Gemma 2": ("post_attention_norm/scale", "post_ffw_norm/scale"),
        "Gemma 3": ("attn/_query_norm/scale", "attn/_key_norm/scale"),
    },
    "gemma_flax": {
        "Gemma 2": ("post_attention_norm/scale", "post_ffw_norm/scale"),
        "Gemma 3": ("attn/_query_norm/scale", "attn/_key_norm/scale"),
    },
}
NO_LATER = dict.fromkeys(("openpi", "openpi_pytorch", "lerobot", "peft"), "no pi0 was made of a later Gemma")


def _sized(**sizes: int) -> ModelSpec:
    """Return a tiny spec with other sizes: those of a whole model, or of a part as ``part__size``."""
    spec = tiny()
    for name, size in sizes.items():
        part, _, key = name.rpartition("__")
        target: dict[str, Any] = spec[part] if part else spec  # type: ignore[literal-required,assignment]
        target[key] = size
    return spec


# Other models than the smallest one, whose checkpoint has arrays of other shapes.
OTHER_MODELS: dict[str, ModelSpec] = {
    "a_layer_more": _sized(paligemma__depth=4, action_expert__depth=4),
    "a_layer_less": _sized(paligemma__depth=2, action_expert__depth=2),
    "more_kv_heads": tiny(num_kv_heads=2),
    "as_many_kv_heads_as_query_heads": tiny(num_kv_heads=6),
    "longer_heads": _sized(paligemma__head_dim=12, action_expert__head_dim=12),
    "wider": _sized(paligemma__width=60),
    "wider_mlp": _sized(paligemma__mlp_dim=92),
    "larger_vocabulary": _sized(vocab_size=601),
    "smaller_vocabulary": _sized(vocab_size=380),
    "larger_images": _sized(image_size=56),
    "a_vision_layer_more": _sized(siglip__depth=3),
    "wider_vision": _sized(siglip__width=45),
    "wider_expert": _sized(action_expert__width=40),
    "fewer_actions": _sized(action_dim=8),
}


@cache
def other_models(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each other model whose checkpoint looks different in the layout."""
    model = layout.model(tiny())
    own = _described(layout, model)
    return tuple(
        Case(id=f"of_{name}", layout=layout, model=model, stored=layout.model(spec))
        for name, spec in OTHER_MODELS.items()
        if _described(layout, layout.model(spec)) != own
    )


@cache
def other_ranks(layout: Layout) -> tuple[Case, ...]:
    """Return the case of adapters of another rank, for layouts that hold adapters."""
    if layout.name not in ("openpi", "peft"):
        return ()
    model = layout.model(with_lora(tiny()))
    stored = layout.model(with_lora(tiny()))
    lora = stored["paligemma"]["lora"]
    assert lora
    assert lora["ffn"]
    lora["ffn"]["rank"] -= 1
    return (Case(id="of_another_rank", layout=layout, model=model, stored=stored),)


def _described(layout: Layout, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    contents = layout.contents(spec, 0, "float32")
    return {name: array.shape for name, array in layout.tensors(contents).items()}


@cache
def missing(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each part of a model of which one tensor is missing."""
    model = layout.model(tiny())
    found = {role: layout.sites(model, path) for role, path in ROLES.items() if layout.changes(path)}
    missing = [
        Case(id=f"without_{role}", layout=layout, model=model, tensors=_without(names[len(names) // 2]))
        for role, names in found.items()
        if names
    ]
    # Adapters may be missing; nothing else may, whatever else is fresh.
    adapted = [
        Case(id=f"{case.id}{_ADAPTED}", layout=layout, model=with_lora(model), stored=model, tensors=case.tensors)
        for case in missing[:1]
        if layout.holds != "adapters"
    ]
    return (*missing, *adapted)


@cache
def missing_shards(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each way to have some of three shards alone; none of a layout without shards."""
    if layout.name in NOT_IN_SHARDS:
        return ()
    ways = {
        "without_a_shard": in_files.without_a_shard_of_three,
        "with_an_index_of_two_shards": in_files.with_an_index_of_two_shards_of_three,
        "with_the_first_shard_alone": in_files.with_the_first_shard_as_the_file,
    }
    model = tiny()
    return tuple(Case(id=name, layout=layout, model=model, files=files) for name, files in ways.items())


def site_of(case: Case) -> tuple[str, ...]:
    """Return openpi's path and the layout's names of the tensor that a case of ``missing`` lacks."""
    role = case.id.removeprefix("without_").removesuffix(_ADAPTED)
    names = TIED.get(case.layout.name, ()) if role == "token_table" else ()
    return ROLES[role], case.layout.site(case.stored or case.model, ROLES[role]), *names


def mention_of(*names: str) -> AnyOf:
    """Mention one of the names, as it is or as jax writes a path of keys: ``['PaliGemma']['img']``."""
    keys = ("".join(f"['{key}']" for key in name.split("/")) for name in names)
    return AnyOf((*names, *keys))


@cache
def renamed(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each way to rename all tensors, so that no name is one of the layout's."""
    changes: dict[str, Callable[[str], str]] = {
        "below_another_root": lambda name: f"student.{name}" if "." in name else f"student/{name}",
        "in_the_other_case": str.swapcase,
        "with_other_separators": lambda name: name.translate(str.maketrans("./", "/.")),
        "with_a_suffix": lambda name: f"{name}_old",
    }
    model = layout.model(tiny())
    return tuple(Case(id=name, layout=layout, model=model, tensors=_named(change)) for name, change in changes.items())


@cache
def of_another_shape(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each other shape of one weight."""
    changes: dict[str, Callable[[Array], Array]] = {
        "transposed": lambda x: np.ascontiguousarray(np.swapaxes(x, -1, -2)),
        "a_row_less": lambda x: x[..., :-1, :].copy(),
        "a_row_more": lambda x: np.concatenate([x, x[..., -1:, :]], axis=-2),
        "flat": lambda x: x.reshape(-1).copy(),
        "with_an_axis_more": lambda x: x[None].copy(),
        "empty": lambda x: x[..., :0, :].copy(),
        "one_number": lambda x: x.reshape(-1)[0].copy().reshape(()),
    }
    if not layout.weights and layout.name != "paligemma_npz":
        del changes["empty"]  # orbax writes no empty array
    return _changed(layout, changes)


@cache
def of_two_other_shapes(layout: Layout) -> tuple[Case, ...]:
    """Return the case of two weights, each with a row less."""
    model = layout.model(tiny())
    names = [site for path in two_weights(layout) for site in [layout.site(model, path)]]

    def shorten(tensors: Params) -> Params:
        return tensors | {name: tensors[name][..., :-1, :].copy() for name in names}

    return (Case(id="two_weights_a_row_less", layout=layout, model=model, tensors=shorten),)


def two_weights(layout: Layout) -> tuple[str, str]:
    """Return openpi's paths of the two weights of ``of_two_other_shapes``."""
    if layout.holds == "adapters":
        return layout.weight, layout.weight.replace("/mlp/", "/mlp_1/")
    return layout.weight, f"{LLM}layers/mlp/gating_einsum"


@cache
def with_shapes(layout: Layout) -> tuple[Case, ...]:
    """Return the cases of another shape whose numbers an error can name."""
    if layout.holds == "adapters":
        return ()
    named = ("weight_transposed", "weight_a_row_less", "weight_a_row_more", "weight_with_an_axis_more")
    return tuple(case for case in of_another_shape(layout) if case.id in named)


def shapes_of_weight(case: Case) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the weight's shape in a layout's checkpoint that fits, and its shape in the case."""
    layout = case.layout
    tensors = layout.tensors(case.written())
    name = layout.site(case.model, layout.weight)
    return tensors[name].shape, case.tensors(tensors)[name].shape


@cache
def of_another_kind(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each dtype of one weight whose numbers are no weights, or do not fit float32."""
    changes: dict[str, Callable[[Array], Array]] = {
        "int8_codes": lambda x: np.round(x * 64).astype(np.int8),
        "int64": lambda x: np.round(x * 64).astype(np.int64),
        "bool_mask": lambda x: x > 0,
        "beyond_float32": _beyond_float32,
    }
    return _changed(layout, changes)


# By names alone, a pi0-FAST cannot be told from a PaliGemma.
FAMILY_WORDS: dict[str, re.Pattern[str]] = {
    "pi0": re.compile(r"\bpi0\b"),
    "pi05": re.compile(r"\bpi05\b"),
    "pi0_fast": re.compile(r"\bpi0_fast\b|\bpi0-FAST\b"),
}


@cache
def other_families(layout: Layout) -> tuple[Case, ...]:
    """Return the cases of a whole model of the other family."""
    if layout.holds != "whole":
        return ()
    families: tuple[Family, ...] = ("pi0", "pi05", "pi0_fast") if layout.name in HOLD_FAST else ("pi0", "pi05")
    return tuple(
        Case(id=f"{stored}_for_{model}", layout=layout, model=tiny(model), stored=tiny(stored))
        for stored, model in itertools.permutations(families, 2)
    )


@cache
def later_versions(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each later Gemma, with its additional tensors in each layer."""
    return tuple(
        Case(id=f"of_{version.lower().replace(' ', '_')}", layout=layout, model=tiny(), tensors=_later(layout, names))
        for version, names in LATER.get(layout.name, {}).items()
    )


@cache
def adapters(layout: Layout) -> tuple[Case, ...]:
    """Return the case of an adapter beside the weights, for a model without adapters."""
    if layout.name == "openpi":
        return (Case(id="with_adapters", layout=layout, model=tiny(), stored=with_lora(tiny())),)
    if layout.name not in ADAPTER_OF_A_STRANGER:
        return ()
    more = {ADAPTER_OF_A_STRANGER[layout.name]: np.ones((3, 4), np.float32)}
    return (Case(id="with_an_adapter", layout=layout, model=tiny(), tensors=lambda tensors: tensors | more),)


@cache
def adapters_elsewhere(layout: Layout) -> tuple[Case, ...]:
    """Return the cases of adapters of one expert for a model with those of the other, and of half of those it has."""
    if layout.name != "openpi":
        return ()
    one, other, both = (tiny(lora=which) for which in ("paligemma", "action_expert", "both"))
    return (
        Case(id="with_adapters_of_the_other_expert", layout=layout, model=other, stored=one),
        Case(id="with_adapters_of_one_expert", layout=layout, model=one, stored=both),
    )


@cache
def served(layout: Layout) -> tuple[Case, ...]:
    """Return all cases that say something about serving, of the layout that is served."""
    if layout.name != "openpi":
        return ()
    kinds = (other_models, other_ranks, missing, renamed, of_another_shape, of_another_kind, other_families)
    return tuple(case for kind in (*kinds, adapters, adapters_elsewhere) for case in kind(layout))


@cache
def conflicting(layout: Layout) -> tuple[Case, ...]:
    """Return the case of two tied tables that differ in one number.

    lerobot's tables are not tied: its pi0 and pi0.5 read the embedding alone, but its pi0-FAST reads both.
    """
    if layout.name in NOT_TIED:
        return ()
    model = tiny("pi0_fast" if layout.name == "lerobot" else "pi0")
    return (Case(id="with_two_tables", layout=layout, model=model, tensors=_two_tables(TIED[layout.name])),)


@cache
def one_of_each_kind(layout: Layout) -> tuple[Case, ...]:
    """Return one case of each kind that every layout has."""
    return tuple(kind(layout)[0] for kind in (other_models, missing, renamed, of_another_shape, of_another_kind))


@cache
def served_of_each_kind(layout: Layout) -> tuple[Case, ...]:
    """Return one case of each kind, of the layout that is served."""
    return tuple(case for case in one_of_each_kind(layout) if case in served(layout))


def _changed(layout: Layout, changes: dict[str, Callable[[Array], Array]]) -> tuple[Case, ...]:
    model = layout.model(tiny())
    name = layout.site(model, layout.weight)
    return tuple(
        Case(id=f"weight_{how}", layout=layout, model=model, tensors=_with(name, change))
        for how, change in changes.items()
    )


def _with(name: str, change: Callable[[Array], Array]) -> Callable[[Params], Params]:
    return lambda tensors: tensors | {name: change(tensors[name])}


def _without(gone: str) -> Callable[[Params], Params]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name != gone}


def _named(change: Callable[[str], str]) -> Callable[[Params], Params]:
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


def _beyond_float32(weight: Array) -> Array:
    """Return the weight in float64, with one finite number that float32 rounds to infinity."""
    wide = weight.astype(np.float64)
    wide.flat[0] = 1e39
    return wide


def _later(layout: Layout, names: tuple[str, ...]) -> Callable[[Params], Params]:
    """Return the change that adds tensors of these names beside each layer's first norm, with its shape."""
    norms = layout.sites(tiny(), f"{LLM}layers/pre_attention_norm/scale")
    ends = ("pre_attention_norm/scale", "input_layernorm.weight")

    def change(tensors: Params) -> Params:
        more: Params = {}
        for norm in norms:
            start = next(norm.removesuffix(end) for end in ends if norm.endswith(end))
            more |= {start + name: tensors[norm] for name in names}
        return tensors | more

    return change


def _two_tables(names: tuple[str, str]) -> Callable[[Params], Params]:
    table, head = names

    def change(tensors: Params) -> Params:
        [stored] = [tensors[name] for name in names if name in tensors]
        other = stored.copy()
        other[-4, 0] += 1
        return tensors | {table: stored, head: other}

    return change
