"""Where a model's adapters sit, by openpi's names; models with an adapter at one site only, or with other options."""

import copy
from collections.abc import Callable, Iterator

import numpy as np

from fixtures.params import Params
from fixtures.specs import LoraSpec, ModelSpec


def lora_bs(params: Params) -> list[str]:
    """The path of every lora_b: one for each site."""
    return sorted(path for path in params if path.endswith("lora_b"))


def lora_a_of(lora_b: str) -> str:
    """The other matrix of the adapter."""
    return lora_b.removesuffix("b") + "a"


def weight_of(lora_b: str) -> str:
    """The weight that the adapter is added to: ``q_einsum/w`` of ``q_einsum/lora_b``, ``linear`` of
    ``linear_lora_b``."""
    return lora_b.removesuffix("lora_b") + "w" if lora_b.endswith("/lora_b") else lora_b.removesuffix("_lora_b")


def one_site_at_a_time(params: Params) -> Iterator[tuple[str, Params]]:
    """Each lora_b's path, and the parameters with every other lora_b zero."""
    zeros = {path: np.zeros_like(params[path]) for path in lora_bs(params)}
    for path in zeros:
        yield path, params | zeros | {path: params[path]}


def at_every_site(spec: ModelSpec, change: Callable[[LoraSpec], LoraSpec]) -> ModelSpec:
    """A copy of the spec with the options of each of its adapters changed."""
    changed = copy.deepcopy(spec)
    for expert in (changed["paligemma"], changed["action_expert"]):
        if lora := expert["lora"]:
            expert["lora"] = {
                "attn": lora["attn"] and change(lora["attn"]),
                "ffn": lora["ffn"] and change(lora["ffn"]),
            }
    return changed
