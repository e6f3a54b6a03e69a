"""PEFT's LoRA on transformers' pi0: each of openpi's adapters as the PEFT adapter that computes the same.

Where openpi has an adapter per head, PEFT has one with the rank times the number of heads and a block-diagonal B; alpha
grows with the rank. After attention, openpi sums over the heads in both products: there PEFT has the rank of one head,
and the sum of lora_b. rslora is an option of a whole PEFT adapter, so there may be two, one with it and one without,
both active.

PEFT's training is not offered: it would fill the zeros between the blocks, and openpi has no place for them.
"""

import copy
import functools
import json
import math
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PI0ForConditionalGeneration

from . import _pi0
from ._loading import load_model
from ._pi0 import UNREAD, file_name, fresh_model, pi0_config, pi0_rules
from ._tensors import (
    BLOCKS,
    SUM,
    Params,
    Rule,
    Rules,
    Tensors,
    in_openpi_names,
    params_of,
    shapes_of,
    sites,
    tensors_of,
)

NAME = "peft"
TRAITS = ("pi0", "lora", "peft_adapter", "float32")
# PEFT wraps a model twice.
PREFIX = "base_model.model."
EXPERTS = (("paligemma", "model.vlm.language_model", ""), ("action_expert", "model.dit", "_1"))
# The forms of lora_a and lora_b; PER_HEAD for attention's inputs, which have an adapter per head.
FORMS = {"attn_vec_einsum": ("NHR->R(NH)", SUM), "gating_einsum": ("IR->RI", "RO->OR"), "linear": ("IR->RI", "RO->OR")}
PER_HEAD = ("NDR->(NR)D", BLOCKS)


class Adapter(NamedTuple):
    """One adapter of PEFT: its options and its parameters."""

    name: str
    config: LoraConfig
    rules: Rules


def describe() -> dict[str, Any]:
    packages = {name: metadata.version(name) for name in ("peft", "transformers", "torch", "numpy")}
    return {"version": packages["peft"], "packages": packages, "device": "cpu: torch"}


def param_spec(model: Any) -> dict[str, Any]:
    # The meta device allocates nothing.
    with torch.device("meta"):
        base, lora = _parted(model, _adapted(model, fresh_model(model)))
    return shapes_of(base, pi0_rules(model)) | shapes_of(lora, _lora_rules(model))


def init(model: Any, seed: int) -> Params:
    torch.manual_seed(seed)
    parts = _params(model, _adapted(model, fresh_model(model)))
    return parts["base"] | parts["lora"]


def load(model: Any, source: Any, seed: int) -> dict[str, Any]:
    if source["kind"] != "peft":
        raise NotImplementedError(f"PeftModel reads an adapter of its own, not {source['kind']}")
    torch.manual_seed(seed)
    base = load_model(PI0ForConditionalGeneration, source["path"], pi0_config(model), (file_name(UNREAD),), file_name)
    adapted = PeftModel.from_pretrained(base, source["adapter"]).eval()
    rules = _lora_rules(model)
    lora = get_peft_model_state_dict(adapted)
    with in_openpi_names(rules):
        # The model's own scales are applied later, so the file's scales go into lora_b here.
        scaled = {name: x * _scale(adapted, name, model) if ".lora_B." in name else x for name, x in lora.items()}
        if strangers := scaled.keys() - {name for rule in rules.values() for name in rule.tensor_names()}:
            raise ValueError(f"unexpected keys {sorted(strangers)}")
        params = params_of(scaled, rules)
    params |= params_of(adapted.unload().state_dict(), pi0_rules(model))
    return {"params": params, "report": None, "nonfinite": None, "warnings": [], "notes": None}


def _scale(adapted: PeftModel, tensor: str, model: Any) -> float:
    """Return the scale of a file's adapter divided by that of the model's."""
    module = tensor.partition(".lora_")[0]
    expert = "action_expert" if ".dit." in module else "paligemma"
    lora = model[expert]["lora"]["ffn" if ".mlp." in module else "attn"]
    scale = lora["alpha"] / (math.sqrt(lora["rank"]) if lora["rslora"] else lora["rank"])
    return adapted.get_submodule(module).scaling["default"] / scale


def loss(model: Any, params: Params, batch: Params, noise: Any, time: Any, seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    return _pi0.loss(_refilled(model, params), batch, noise, time)


def sample_actions(model: Any, params: Params, batch: Params, noise: np.ndarray, num_steps: int) -> np.ndarray:
    return _pi0.sample_actions(_refilled(model, params), batch, noise, num_steps)


def embed_prefix(model: Any, params: Params, batch: Params) -> np.ndarray:
    refilled = _refilled(model, params)
    return _pi0.embed_prefix(refilled.get_base_model() if isinstance(refilled, PeftModel) else refilled, batch)


def fold(model: Any, params: Params) -> Params:
    return params_of(_filled(model, params).merge_and_unload().state_dict(), pi0_rules(model))


def unfold(model: Any, params: Params) -> Params:
    filled = _filled(model, params)
    filled.merge_adapter()
    filled.unmerge_adapter()
    parts = _params(model, filled)
    return parts["base"] | parts["lora"]


def extract(model: Any, params: Params) -> dict[str, Params]:
    return _params(model, _filled(model, params))


def merge(model: Any, base: Params, lora: Params) -> Params:
    parts = _params(model, _filled(model, base | lora))
    return parts["base"] | parts["lora"]


def _filled(model: Any, params: Params) -> Any:
    """Make a model with these parameters in their own dtypes, for changing."""
    return _fill(copy.deepcopy(_made(json.dumps(model))), model, params, assign=True)


def _refilled(model: Any, params: Params) -> Any:
    """Make a model with these parameters in its compute dtype; cached, as making one per call would take longer."""
    return _fill(_made(json.dumps(model)), model, params, assign=False)


@functools.lru_cache(maxsize=8)
def _made(spec: str) -> Any:
    model = json.loads(spec)
    return _adapted(model, fresh_model(model, model["dtype"]))


def _fill(made: Any, model: Any, params: Params, *, assign: bool) -> Any:
    adapters, rules = _adapters(model), pi0_rules(model)
    in_adapters = {path for adapter in adapters for path in adapter.rules}
    base = tensors_of({path: x for path, x in params.items() if path not in in_adapters}, rules)
    state = made.state_dict()
    # PEFT inserts a module into the names of what it adapts.
    names = {name.removeprefix(PREFIX).replace(".base_layer", ""): name for name in state}
    others = {name: x for name, x in state.items() if ".lora_" in name or name.endswith(UNREAD)}
    with in_openpi_names(rules):
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


def _adapted(model: Any, base: Any) -> Any:
    """Return the base with all adapters of the model, fresh and active; without any, the base."""
    adapters = _adapters(model)
    if not adapters:
        return base
    first, *more = adapters
    adapted = get_peft_model(base, first.config, adapter_name=first.name)
    for adapter in more:
        adapted.add_adapter(adapter.name, adapter.config)
    adapted.base_model.set_adapter([adapter.name for adapter in adapters])
    return adapted.eval()


def _parted(model: Any, adapted: Any) -> tuple[Tensors, Tensors]:
    """Return the tensors of base and adapters."""
    lora: Tensors = {}
    for adapter in _adapters(model):
        lora |= get_peft_model_state_dict(adapted, adapter_name=adapter.name)
    return (adapted.unload() if lora else adapted).state_dict(), lora


def _params(model: Any, adapted: Any) -> dict[str, Params]:
    base, lora = _parted(model, adapted)
    return {"base": params_of(base, pi0_rules(model)), "lora": params_of(lora, _lora_rules(model))}


def _lora_rules(model: Any) -> Rules:
    return {path: rule for adapter in _adapters(model) for path, rule in adapter.rules.items()}


def _adapters(model: Any) -> list[Adapter]:
    """Return the model's adapters: the one without rslora, and the one with it."""
    return [adapter for name in ("plain", "rslora") if (adapter := _adapter(model, name, name == "rslora")).rules]


def _adapter(model: Any, adapter: str, rslora: bool) -> Adapter:
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    rules: Rules = {}
    for expert, root, suffix in EXPERTS:
        groups = model[expert]["lora"] or {}
        for site in sites(model[expert], suffix):
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
                rules[f"{site.adapter}lora_{matrix}"] = Rule(names, form, model[expert]["depth"], site.heads)
    options = {"target_modules": "|".join(ranks), "rank_pattern": ranks, "alpha_pattern": alphas}
    return Adapter(adapter, LoraConfig(use_rslora=rslora, **options), rules)
