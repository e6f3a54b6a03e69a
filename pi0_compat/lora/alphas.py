"""Rank and alpha of adapters from their shapes and an alpha that the caller gives, and where a scale came from."""

import math
from collections.abc import Mapping
from typing import TypeAlias

from pi0_compat.errors import LoadError
from pi0_compat.lora.sites import ExpertLoRAs, adapter_of
from pi0_compat.model.specs import EXPERTS, ExpertLoRA, LoRASpec
from pi0_compat.params import Leaf
from pi0_compat.paths import expert_of, is_adapter

# One alpha for all adapters, or one for each group: ``paligemma.attn``, ``action_expert.ffn``.
Alphas: TypeAlias = float | Mapping[str, float]
GROUPS = tuple(f"{expert}.{group}" for expert in EXPERTS for group in ("attn", "ffn"))
_WORDS = {"attn": "attention", "ffn": "feed-forward"}


def experts_with(alphas: Alphas, leaves: Mapping[str, Leaf], path: object, *, rslora: bool) -> ExpertLoRAs:
    """Return rank and alpha of the adapters of both experts: ranks from their shapes, alpha as given.

    Args:
      alphas: alpha of all adapters, or of each group in ``GROUPS`` that has adapters.
      leaves: path -> shape and dtype of the checkpoint's parameters.
      path: the checkpoint, for messages.
      rslora: whether the scale is alpha / sqrt(rank).

    Raises:
      LoadError: a group has adapters of several ranks, or has no alpha; an alpha is no positive number, or of a group
        without adapters.
    """
    ranks = _ranks(leaves, path)
    given = dict.fromkeys(ranks, alphas) if isinstance(alphas, int | float) else dict(alphas)
    if strange := sorted(given.keys() - ranks.keys()):
        raise LoadError(f"{path}: an alpha is given for {strange[0]}, which has no adapters; {_having(ranks)}")
    if lacking := sorted(ranks.keys() - given.keys()):
        raise LoadError(f"{path}: no alpha is given for the adapters of {lacking[0]} (rank {ranks[lacking[0]]})")
    for name, alpha in given.items():
        if not (math.isfinite(alpha) and alpha > 0):
            raise LoadError(f"{path}: the alpha of {name} is {alpha}; expected a positive number")
    specs = {name: LoRASpec(rank=rank, alpha=float(given[name]), rslora=rslora) for name, rank in ranks.items()}
    groups = [{group: specs.get(f"{expert}.{group}") for group in _WORDS} for expert in EXPERTS]
    return tuple(ExpertLoRA(**group) if any(group.values()) else None for group in groups)


def scales_of(experts: ExpertLoRAs) -> dict[str, LoRASpec]:
    """Return rank and alpha of every group that has adapters, by its name in ``GROUPS``."""
    return {
        f"{expert}.{group}": spec
        for expert, lora in zip(EXPERTS, experts, strict=False)
        for group in _WORDS
        if lora and (spec := getattr(lora, group))
    }


def describe_scale(name: str, spec: LoRASpec) -> str:
    """Return a line on the scale of a group: ``attention of paligemma: 2 = alpha 32 / rank 16``."""
    expert, _, group = name.partition(".")
    rank = f"sqrt(rank {spec.rank})" if spec.rslora else f"rank {spec.rank}"
    return f"{_WORDS[group]} of {expert}: {spec.scale:g} = alpha {spec.alpha:g} / {rank}"


def _ranks(leaves: Mapping[str, Leaf], path: object) -> dict[str, int]:
    """Return the rank of every group that has adapters."""
    ranks: dict[str, int] = {}
    for name, leaf in leaves.items():
        adapter = adapter_of(name) if is_adapter(name) else None
        if adapter is None or name != adapter.a or not leaf.shape:
            continue
        group = f"{EXPERTS[expert_of(name) or 0]}.{adapter.site.group}"
        if ranks.setdefault(group, leaf.shape[-1]) != leaf.shape[-1]:
            raise LoadError(
                f"{path}: the adapters of {group} have ranks {ranks[group]} and {leaf.shape[-1]} ({name}); one alpha "
                "cannot be meant for both"
            )
    return ranks


def _having(ranks: Mapping[str, int]) -> str:
    return f"those that have some: {', '.join(ranks)}" if ranks else "none has any"
