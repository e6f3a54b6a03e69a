"""openpi's adapters as PEFT adapters on transformers' modules that compute the same.

Where openpi has an adapter per head, PEFT has one with the rank times the number of heads and a block-diagonal B; alpha
grows with the rank. After attention, openpi sums over the heads in both products: there PEFT has the rank of one head,
and the sum of lora_b. rslora is an option of a whole PEFT adapter, so there may be two, one with it and one without,
both active. The first is PEFT's default adapter.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

from ._tensors import BLOCKS, SUM, Params, Rule, Rules, Tensors, in_openpi_names, sites, tensors_of

# PEFT wraps a model twice.
PREFIX = "base_model.model."
SUFFIXES = {"paligemma": "", "action_expert": "_1"}
# The forms of lora_a and lora_b; PER_HEAD for attention's inputs, which have an adapter per head.
FORMS = {"attn_vec_einsum": ("NHR->R(NH)", SUM), "gating_einsum": ("IR->RI", "RO->OR"), "linear": ("IR->RI", "RO->OR")}
PER_HEAD = ("NDR->(NR)D", BLOCKS)
DEFAULT = "default"

# The names of the two Gemmas' modules, by the expert's name in a spec.
Roots = Mapping[str, str]


class Adapter(NamedTuple):
    """One adapter of PEFT: its options and its parameters."""

    name: str
    config: LoraConfig
    rules: Rules


def adapters_of(spec: Any, roots: Roots) -> list[Adapter]:
    """Return the spec's adapters: the one without rslora, and the one with it."""
    found: list[Adapter] = []
    for rslora in (False, True):
        adapter = _adapter(spec, roots, "rslora" if found else DEFAULT, rslora)
        found += [adapter] if adapter.rules else []
    return found


def names_of(adapters: list[Adapter]) -> list[str]:
    return [adapter.name for adapter in adapters]


def lora_rules(spec: Any, roots: Roots) -> Rules:
    """Return the rules of all adapters."""
    return {path: rule for adapter in adapters_of(spec, roots) for path, rule in adapter.rules.items()}


def _adapter(spec: Any, roots: Roots, name: str, rslora: bool) -> Adapter:
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    rules: Rules = {}
    # A pi0-FAST has no action expert.
    for expert, root in ((expert, root) for expert, root in roots.items() if expert in spec):
        groups = spec[expert]["lora"] or {}
        for site in sites(spec[expert], SUFFIXES[expert]):
            lora = groups.get(site.group)
            if not lora or lora["rslora"] != rslora:
                continue
            forms = FORMS.get(site.name, PER_HEAD)
            times = site.heads if forms == PER_HEAD else 1
            modules = [f"{root}.{module}" for module in site.modules]
            for module in (module.replace(".", r"\.").format(r"\d+") for module in modules):
                ranks[module] = times * lora["rank"]
                alphas[module] = (math.sqrt(times) if rslora else times) * lora["alpha"]
            for matrix, form in zip("ab", forms, strict=True):
                names = tuple(f"{PREFIX}{module}.lora_{matrix.upper()}.weight" for module in modules)
                rules[f"{site.adapter}lora_{matrix}"] = Rule(names, form, spec[expert]["depth"], site.heads)
    options = {"target_modules": "|".join(ranks), "rank_pattern": ranks, "alpha_pattern": alphas}
    return Adapter(name, LoraConfig(use_rslora=rslora, **options), rules)


def add_others(adapted: PeftModel, adapters: list[Adapter]) -> PeftModel:
    """Add all adapters but the first, which the model has, and make all of them active."""
    for adapter in adapters[1:]:
        adapted.add_adapter(adapter.name, adapter.config)
    adapted.base_model.set_adapter(names_of(adapters))
    return adapted


def fill(
    made: Any, adapters: list[Adapter], base_rules: Rules, unread: Iterable[str], params: Params, *, assign: bool
) -> Any:
    """Set base weights and adapters of a model, which is a PeftModel if there are adapters; return it.

    Args:
      unread: tensors that no parameter of openpi has; they stay as they are.
      assign: whether tensors keep the dtypes of the params, or get the model's.
    """
    in_adapters = {path for adapter in adapters for path in adapter.rules}
    base = tensors_of({path: x for path, x in params.items() if path not in in_adapters}, base_rules)
    state = made.state_dict()
    # PEFT inserts a module into the names of what it adapts.
    names = {name.removeprefix(PREFIX).replace(".base_layer", ""): name for name in state}
    others = {name: x for name, x in state.items() if ".lora_" in name or name.endswith(tuple(unread))}
    with in_openpi_names(base_rules):
        made.load_state_dict(others | {names.get(name, name): x for name, x in base.items()}, assign=assign)
    for adapter in adapters:
        own = {path: params[path] for path in adapter.rules if path in params}
        with in_openpi_names(adapter.rules):
            _set(made, adapter, tensors_of(own, adapter.rules))
    return made


def _set(model: PeftModel, adapter: Adapter, tensors: Tensors) -> None:
    """Set an adapter's tensors; missing ones are an error.

    PEFT returns missing tensors, always with the base weights, and ``PeftModel.from_pretrained`` warns of missing
    adapter weights by name. A user sees the warning, so it counts as an error.
    """
    result = set_peft_model_state_dict(model, tensors, adapter_name=adapter.name)
    missing = [name for name in result.missing_keys if f".{adapter.name}." in name]
    if missing or result.unexpected_keys:
        raise ValueError(f"missing adapter keys {missing}, unexpected keys {result.unexpected_keys}")


def adapter_tensors(adapted: PeftModel, names: Iterable[str]) -> Tensors:
    """Return the tensors of the named adapters, as PEFT's files name them."""
    lora: Tensors = {}
    for name in names:
        lora |= get_peft_model_state_dict(adapted, adapter_name=name)
    return lora


def scaled_tensors(spec: Any, roots: Roots, adapted: PeftModel, names: Iterable[str]) -> Tensors:
    """Return the tensors of loaded adapters, with the scales of the files' options in B, relative to the spec's."""
    lora: Tensors = {}
    for adapter in names:
        for name, tensor in adapter_tensors(adapted, [adapter]).items():
            lora[name] = tensor * _scale(spec, roots, adapted, adapter, name) if ".lora_B." in name else tensor
    return lora


def _scale(spec: Any, roots: Roots, adapted: PeftModel, adapter: str, tensor: str) -> float:
    module = tensor.partition(".lora_")[0]
    expert = next(expert for expert, root in roots.items() if module.startswith(f"{PREFIX}{root}."))
    lora = spec[expert]["lora"]["ffn" if ".mlp." in module else "attn"]
    scale = lora["alpha"] / (math.sqrt(lora["rank"]) if lora["rslora"] else lora["rank"])
    return float(adapted.get_submodule(module).scaling[adapter] / scale)


def trainable_of(module: torch.nn.Module, rules: Rules) -> list[str]:
    """Return the parameters of the rules whose tensors all have gradients."""
    names = {re.sub(r"(\.lora_[AB])\.\w+\.", r"\1.", name) for name, x in module.named_parameters() if x.requires_grad}
    names |= {name.removeprefix(PREFIX).replace(".base_layer", "") for name in names}
    return [path for path, rule in rules.items() if names.issuperset(rule.tensor_names())]


def require_one_head(adapters: list[Adapter]) -> None:
    """Reject a training of adapters of several heads: it fills the zeros between the blocks, and openpi has no place
    for them.

    Raises:
      NotImplementedError: an adapter is per head, and there are several heads.
    """
    rules = [rule for adapter in adapters for rule in adapter.rules.values()]
    if any(rule.axes == BLOCKS and rule.heads > 1 for rule in rules):
        raise NotImplementedError("a trained PEFT adapter of several heads has numbers between openpi's adapters")
