"""The models of the named training configs, at openpi's sizes, and a tiny twin of each for tests.

Names and sizes are openpi's (``training/config.py`` at 15a9616). No jax is needed: ``training.configs`` makes the
configs of them.
"""

import dataclasses
import difflib
from functools import cache
from typing import NamedTuple

from pi0_compat.model import specs
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import ExpertLoRA, Family
from pi0_compat.model.variants import (
    gemma_2b,
    gemma_300m,
    gemma_dummy,
    siglip_so400m,
    tiny_gemma_2b,
    tiny_gemma_300m,
    tiny_siglip,
)

TINY_SUFFIX = "_tiny"


class _Named(NamedTuple):
    """What sets the model of a named config apart from its family's; None is the family's.

    Attributes:
      lora: whether all experts have adapters, with the ranks of openpi's variants.
      dummy: whether the experts are openpi's small ones for debugging.
    """

    family: Family
    action_horizon: int | None = None
    max_token_len: int | None = None
    action_dim: int | None = None
    lora: bool = False
    dummy: bool = False


class _Lengths(NamedTuple):
    """What openpi's models of a family have unless a config says otherwise."""

    action_horizon: int
    max_token_len: int
    tiny_max_token_len: int = 7


_LENGTHS: dict[Family, _Lengths] = {
    "pi0": _Lengths(50, 48),
    "pi05": _Lengths(50, 200),
    "pi0_fast": _Lengths(32, 250, tiny_max_token_len=12),
}
_ACTION_DIM = 32

# openpi's 31, then those that openpi does not have: the base models, and LoRA that users ask for (openpi #672, #711).
_NAMED: dict[str, _Named] = {
    "debug": _Named("pi0", dummy=True),
    "debug_pi05": _Named("pi05", dummy=True),
    "debug_restore": _Named("pi0", dummy=True),
    "paligemma_binning_droid": _Named("pi0_fast", 15, 400, 8),
    "paligemma_binning_droid_jointpos": _Named("pi0_fast", 15, 600, 8),
    "paligemma_diffusion_droid": _Named("pi0", 10, action_dim=8),
    "paligemma_fast_droid": _Named("pi0_fast", 15, action_dim=8),
    "paligemma_fast_specialist_droid": _Named("pi0_fast", 15, action_dim=8),
    "paligemma_vq_droid": _Named("pi0_fast", 15, action_dim=8),
    "pi05_aloha": _Named("pi05"),
    "pi05_aloha_pen_uncap": _Named("pi05"),
    "pi05_droid": _Named("pi05", 15),
    "pi05_droid_finetune": _Named("pi05", 16),
    "pi05_droid_jointpos_polaris": _Named("pi05", 15),
    "pi05_full_droid_finetune": _Named("pi05", 16),
    "pi05_libero": _Named("pi05", 10),
    "pi0_aloha": _Named("pi0"),
    "pi0_aloha_pen_uncap": _Named("pi0"),
    "pi0_aloha_sim": _Named("pi0"),
    "pi0_aloha_towel": _Named("pi0"),
    "pi0_aloha_tupperware": _Named("pi0"),
    "pi0_droid": _Named("pi0", 10),
    "pi0_droid_jointpos_100k_polaris": _Named("pi0", 10, 100),
    "pi0_droid_jointpos_polaris": _Named("pi0", 10, 100),
    "pi0_fast_droid": _Named("pi0_fast", 10, action_dim=8),
    "pi0_fast_droid_jointpos_polaris": _Named("pi0_fast", 10, 180, 8),
    "pi0_fast_full_droid_finetune": _Named("pi0_fast", 16, 180, 8),
    "pi0_fast_libero": _Named("pi0_fast", 10, 180, 7),
    "pi0_fast_libero_low_mem_finetune": _Named("pi0_fast", 10, 180, 7, lora=True),
    "pi0_libero": _Named("pi0"),
    "pi0_libero_low_mem_finetune": _Named("pi0", lora=True),
    "pi0_base": _Named("pi0"),
    "pi05_base": _Named("pi05"),
    "pi0_fast_base": _Named("pi0_fast"),
    "pi05_libero_low_mem_finetune": _Named("pi05", 10, lora=True),
    "pi05_droid_low_mem_finetune": _Named("pi05", 16, lora=True),
    "pi05_aloha_low_mem_finetune": _Named("pi05", lora=True),
    "pi0_fast_droid_low_mem_finetune": _Named("pi0_fast", 16, 180, 8, lora=True),
}


def pi0_model(
    family: Family = "pi0",
    *,
    paligemma_lora: ExpertLoRA | None = None,
    action_expert_lora: ExpertLoRA | None = None,
    action_horizon: int | None = None,
    max_token_len: int | None = None,
    action_dim: int | None = None,
) -> Pi0Spec:
    """Return a model of the real sizes: Gemma 2B, a 300M action expert, SigLIP So400m/14 at 224 pixels.

    A pi0_fast has no action expert. What is not given is what openpi's models of the family have.
    """
    lengths = _LENGTHS[family]
    return Pi0Spec(
        family=family,
        vocab_size=257_152,
        image_size=224,
        siglip=siglip_so400m(),
        paligemma=gemma_2b(paligemma_lora),
        action_expert=None if family == "pi0_fast" else gemma_300m(action_expert_lora),
        action_dim=action_dim or _ACTION_DIM,
        action_horizon=action_horizon or lengths.action_horizon,
        max_token_len=max_token_len or lengths.max_token_len,
    )


def tiny_model(
    family: Family = "pi0",
    *,
    paligemma_lora: ExpertLoRA | None = None,
    action_expert_lora: ExpertLoRA | None = None,
    dtype: str = "bfloat16",
) -> Pi0Spec:
    """Return a model of the same structure at sizes for tests, all dimensions distinct."""
    return Pi0Spec(
        family=family,
        dtype=dtype,
        vocab_size=509,
        image_size=28,
        siglip=tiny_siglip(),
        paligemma=tiny_gemma_2b(paligemma_lora),
        action_expert=None if family == "pi0_fast" else tiny_gemma_300m(action_expert_lora),
        action_dim=8,
        action_horizon=5,
        max_token_len=_LENGTHS[family].tiny_max_token_len,
    )


@cache
def named_models() -> dict[str, Pi0Spec]:
    """Return the model of every named config, and of its twin ``<name>_tiny`` with the same family and adapters."""
    models = {name: _real_model(named) for name, named in _NAMED.items()}
    models |= {f"{name}{TINY_SUFFIX}": _tiny_twin(model) for name, model in models.items()}
    return dict(sorted(models.items()))


def named_model(name: str) -> Pi0Spec:
    """Return the model of the named config ``name``.

    Raises:
      ValueError: no config has this name; the message has the closest names.
    """
    if model := named_models().get(name):
        return model
    known = sorted(named_models())
    closest = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
    raise ValueError(f"no config {name!r}; the closest names are {', '.join(closest)}")


def spec_of(config: Pi0Spec | str | None) -> Pi0Spec | None:
    """Return the model of a config that is given by its name; a model, or None, as it is.

    Raises:
      ValueError: no config has this name; the message has the closest names.
    """
    return named_model(config) if isinstance(config, str) else config


def _real_model(named: _Named) -> Pi0Spec:
    """Return the model at real sizes, with the ranks of openpi's variants."""
    model = pi0_model(
        named.family,
        paligemma_lora=specs.lora(16) if named.lora else None,
        action_expert_lora=specs.lora(32) if named.lora else None,
        action_horizon=named.action_horizon,
        max_token_len=named.max_token_len,
        action_dim=named.action_dim,
    )
    return dataclasses.replace(model, paligemma=gemma_dummy(), action_expert=gemma_dummy()) if named.dummy else model


def _tiny_twin(model: Pi0Spec) -> Pi0Spec:
    """Return the model at tiny sizes and ranks."""
    return tiny_model(
        model.family,
        dtype=model.dtype,
        paligemma_lora=specs.lora(4) if model.paligemma.has_lora else None,
        action_expert_lora=specs.lora(6) if model.action_expert and model.action_expert.has_lora else None,
    )
