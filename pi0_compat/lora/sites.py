"""Find adapters in the paths of parameters: the weight, lora_a and lora_b of each, with rank and alpha."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.sites import SITES, Site, adapter_shapes
from pi0_compat.model.specs import ExpertLoRA, LoRASpec
from pi0_compat.paths import expert_of, is_adapter

_FFN_SUFFIX = re.compile("_lora_[ab]$")
# The adapters of PaliGemma's language model and of the action expert.
ExpertLoRAs: TypeAlias = tuple[ExpertLoRA | None, ...]


class Adapter(NamedTuple):
    """The paths of an adapted weight and of its two matrices, and the einsums between them."""

    site: Site
    weight: str
    a: str
    b: str

    @property
    def name(self) -> str:
        """Return the key of its site in ``SITES``."""
        return next(name for name, site in SITES.items() if site is self.site)


def adapter_of(path: str) -> Adapter | None:
    """Return the adapter that a weight or a LoRA matrix belongs to; None for a path where none can sit.

    ``.../q_einsum_1/w`` has ``.../q_einsum_1/lora_a``; ``.../mlp/linear`` has ``.../mlp/linear_lora_a``.
    """
    parent, _, name = path.rpartition("/")
    module = parent.rpartition("/")[2].removesuffix("_1")
    site = SITES.get(module)
    if name in ("w", "lora_a", "lora_b") and site and site.group == "attn":
        return Adapter(site, f"{parent}/w", f"{parent}/lora_a", f"{parent}/lora_b")
    site = SITES.get(_FFN_SUFFIX.sub("", name))
    if module == "mlp" and site and site.group == "ffn":
        weight = f"{parent}/{_FFN_SUFFIX.sub('', name)}"
        return Adapter(site, weight, f"{weight}_lora_a", f"{weight}_lora_b")
    return None


def require_whole_adapters(params: Mapping[str, Any]) -> None:
    """Raise a ValueError unless every LoRA matrix has its other half and its weight, in shapes that fit."""
    for adapter in adapters_in(path for path in params if is_adapter(path)):
        for path in (adapter.a, adapter.b, adapter.weight):
            if path not in params:
                raise ValueError(f"{path} is missing, but the rest of its adapter is there: {_rest(adapter, params)}")
        rank = params[adapter.a].shape[-1]
        shape_a, shape_b = adapter_shapes(params[adapter.weight].shape, rank)
        _require_shape(params, adapter.a, shape_a)
        _require_shape(params, adapter.b, shape_b)


def _rest(adapter: Adapter, params: Mapping[str, Any]) -> str:
    return ", ".join(path for path in (adapter.a, adapter.b) if path in params)


def adapters_in(paths: Iterable[str]) -> list[Adapter]:
    """Return the adapters that LoRA matrices of these paths belong to; a ValueError names a path that has no site."""
    found = {}
    for path in paths:
        if (adapter := adapter_of(path)) is None:
            raise ValueError(f"{path} is named like an adapter, but no weight of a pi0 model has one there")
        found[adapter.weight] = adapter
    return list(found.values())


def require_rank(adapter: Adapter, rank: int, spec: LoRASpec) -> None:
    """Raise a ValueError unless the rank is the spec's: with another, alpha / rank would be wrong."""
    if rank != spec.rank:
        raise ValueError(f"{adapter.a}: rank {rank}, but the config says {spec.rank}; alpha / rank would be wrong")


def lora_of(config: Pi0Spec) -> ExpertLoRAs:
    """Return rank and alpha of the adapters of both experts; None for an expert that has none, or is not there."""
    return config.paligemma.lora, config.action_expert.lora if config.action_expert else None


def spec_among(experts: ExpertLoRAs, adapter: Adapter) -> LoRASpec | None:
    """Return rank and alpha of an adapter from those of both experts; None where they have no adapter."""
    expert = experts[expert_of(adapter.weight) or 0]
    return getattr(expert, adapter.site.group) if expert else None


def _require_shape(params: Mapping[str, Any], path: str, shape: tuple[int, ...]) -> None:
    if path not in params:
        raise ValueError(f"{path}: expected shape {tuple(shape)}, found nothing")
    if tuple(params[path].shape) != tuple(shape):
        raise ValueError(f"{path}: expected shape {tuple(shape)}, found {tuple(params[path].shape)}")
