"""LoRA sites: the paths of each adapter's matrices and weight, and models that differ in their adapters only."""

import copy
from collections.abc import Callable, Iterator

import numpy as np

from fixtures.params import Params
from fixtures.specs import LoraSpec, ModelSpec


def lora_b_paths(params: Params) -> list[str]:
    """Return the path of every lora_b, one per site, sorted."""
    return sorted(path for path in params if path.endswith("lora_b"))


def lora_a_of(lora_b: str) -> str:
    """Return the path of the adapter's other matrix."""
    return lora_b.removesuffix("b") + "a"


def weight_of(lora_b: str) -> str:
    """Return the path of the adapted weight: ``q_einsum/w`` for ``q_einsum/lora_b``, ``linear`` for
    ``linear_lora_b``."""
    return lora_b.removesuffix("lora_b") + "w" if lora_b.endswith("/lora_b") else lora_b.removesuffix("_lora_b")


def one_site_at_a_time(params: Params) -> Iterator[tuple[str, Params]]:
    """Yield each lora_b's path, and the parameters with every other lora_b zero."""
    zeros = {path: np.zeros_like(params[path]) for path in lora_b_paths(params)}
    for path in zeros:
        yield path, params | zeros | {path: params[path]}


def at_every_site(spec: ModelSpec, change: Callable[[LoraSpec], LoraSpec]) -> ModelSpec:
    """Return a copy of the spec with ``change`` applied to the options of each adapter."""
    changed = copy.deepcopy(spec)
    for expert in (changed["paligemma"], changed["action_expert"]):
        if lora := expert["lora"]:
            expert["lora"] = {
                "attn": lora["attn"] and change(lora["attn"]),
                "ffn": lora["ffn"] and change(lora["ffn"]),
            }
    return changed
