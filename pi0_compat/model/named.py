"""The models of the named training configs, at openpi's sizes, and a tiny twin of each for tests.

Names and sizes are openpi's (``training/config.py`` at 15a9616). No jax is needed: ``training.configs`` makes the
configs of them.
"""

import dataclasses
import difflib
from functools import cache

from pi0_compat.model import specs
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import ExpertLoRA, Family
from pi0_compat.model.variants import gemma_2b, gemma_300m, siglip_so400m, tiny_gemma_2b, tiny_gemma_300m, tiny_siglip

TINY_SUFFIX = "_tiny"


def pi0_model(
    family: Family = "pi0",
    *,
    paligemma_lora: ExpertLoRA | None = None,
    action_expert_lora: ExpertLoRA | None = None,
    action_horizon: int = 50,
) -> Pi0Spec:
    """Return a model of the real sizes: Gemma 2B, a 300M action expert, SigLIP So400m/14 at 224 pixels."""
    return Pi0Spec(
        family=family,
        vocab_size=257_152,
        image_size=224,
        siglip=siglip_so400m(),
        paligemma=gemma_2b(paligemma_lora),
        action_expert=gemma_300m(action_expert_lora),
        action_dim=32,
        action_horizon=action_horizon,
        max_token_len=200 if family == "pi05" else 48,
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
        action_expert=tiny_gemma_300m(action_expert_lora),
        action_dim=8,
        action_horizon=5,
        max_token_len=7,
    )


@cache
def named_models() -> dict[str, Pi0Spec]:
    """Return the model of every named config, and of its twin ``<name>_tiny`` with the same family and adapters."""
    pi0_lora = pi0_model(paligemma_lora=specs.lora(16), action_expert_lora=specs.lora(32))
    pi05_libero = pi0_model("pi05", action_horizon=10)
    models = {
        "pi0_base": pi0_model(),
        "pi05_base": pi0_model("pi05"),
        "pi0_libero": pi0_model(),
        "pi0_libero_low_mem_finetune": pi0_lora,
        "pi05_libero": pi05_libero,
        "pi05_libero_low_mem_finetune": dataclasses.replace(
            pi05_libero, paligemma=pi0_lora.paligemma, action_expert=pi0_lora.action_expert
        ),
    }
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


def _tiny_twin(model: Pi0Spec) -> Pi0Spec:
    """Return the model at tiny sizes and ranks."""
    return tiny_model(
        model.family,
        dtype=model.dtype,
        paligemma_lora=specs.lora(4) if model.paligemma.has_lora else None,
        action_expert_lora=specs.lora(6) if model.action_expert.has_lora else None,
    )
