"""Named training configs: the model, where its weights come from, how it is trained.

Names and values are openpi's (``training/config.py`` at 15a9616). Every config has a twin ``<name>_tiny`` of the same
family and the same LoRA, small enough for a test.
"""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any

from suite.reference import specs
from suite.reference.optimizers import AdamW, CosineDecaySchedule
from suite.reference.pi0_config import Pi0Config
from suite.reference.specs import ExpertLoRA, Family
from suite.reference.weight_loaders import CheckpointWeightLoader, NoOpWeightLoader, WeightLoader

CHECKPOINTS = "gs://openpi-assets/checkpoints"
TINY_SUFFIX = "_tiny"


def pi0_model(
    family: Family = "pi0",
    *,
    paligemma_lora: ExpertLoRA | None = None,
    action_expert_lora: ExpertLoRA | None = None,
    action_horizon: int = 50,
) -> Pi0Config:
    """The real sizes: Gemma 2B, a 300M action expert, SigLIP So400m/14 at 224 pixels."""
    return Pi0Config(
        family=family,
        vocab_size=257_152,
        image_size=224,
        siglip=specs.siglip_so400m(),
        paligemma=specs.gemma_2b(paligemma_lora),
        action_expert=specs.gemma_300m(action_expert_lora),
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
) -> Pi0Config:
    """The same structure at sizes for tests, all dimensions distinct."""
    return Pi0Config(
        family=family,
        dtype=dtype,
        vocab_size=509,
        image_size=28,
        siglip=specs.tiny_siglip(),
        paligemma=specs.tiny_gemma_2b(paligemma_lora),
        action_expert=specs.tiny_gemma_300m(action_expert_lora),
        action_dim=8,
        action_horizon=5,
        max_token_len=7,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
      ema_decay: of the moving average of the trainable parameters; None for none.
      frozen_dtype: what parameters that LoRA freezes are kept in.
    """

    name: str = "unnamed"
    model: Pi0Config = dataclasses.field(default_factory=pi0_model)
    weight_loader: WeightLoader = NoOpWeightLoader()
    ema_decay: float | None = 0.99
    optimizer: AdamW = AdamW()
    lr_schedule: CosineDecaySchedule = CosineDecaySchedule()
    frozen_dtype: str = "bfloat16"
    batch_size: int = 32
    num_train_steps: int = 30_000
    seed: int = 42

    @property
    def freeze_filter(self) -> Callable[[tuple, Any], bool]:
        """The nnx filter of frozen parameters: the model's own, as a copy could disagree (openpi #317, #806)."""
        return self.model.freeze_filter()


def get_config(name: str) -> TrainConfig:
    """The config of that name.

    Raises:
      ValueError: there is none; the message has the closest names.
    """
    if config := _CONFIGS.get(name):
        return config
    closest = difflib.get_close_matches(name, _CONFIGS, n=3, cutoff=0.4) or config_names()
    raise ValueError(f"no config {name!r}; the closest names are {', '.join(closest)}")


def config_names() -> list[str]:
    """All names that ``get_config`` knows."""
    return sorted(_CONFIGS)


def _real_configs() -> list[TrainConfig]:
    pi0_lora = pi0_model(paligemma_lora=specs.lora(16), action_expert_lora=specs.lora(32))
    pi05 = pi0_model("pi05", action_horizon=10)
    pi05_lora = dataclasses.replace(pi05, paligemma=pi0_lora.paligemma, action_expert=pi0_lora.action_expert)
    pi0_base = CheckpointWeightLoader(f"{CHECKPOINTS}/pi0_base/params")
    pi05_base = CheckpointWeightLoader(f"{CHECKPOINTS}/pi05_base/params")
    pi05_libero = TrainConfig(
        name="pi05_libero",
        model=pi05,
        weight_loader=pi05_base,
        # A long warm-up to a constant rate.
        lr_schedule=CosineDecaySchedule(warmup_steps=10_000, peak_lr=5e-5, decay_steps=1_000_000, decay_lr=5e-5),
        ema_decay=0.999,
        batch_size=256,
    )
    return [
        TrainConfig(name="pi0_base", model=pi0_model(), weight_loader=pi0_base),
        TrainConfig(name="pi05_base", model=pi0_model("pi05"), weight_loader=pi05_base),
        TrainConfig(name="pi0_libero", model=pi0_model(), weight_loader=pi0_base),
        TrainConfig(name="pi0_libero_low_mem_finetune", model=pi0_lora, weight_loader=pi0_base, ema_decay=None),
        pi05_libero,
        # openpi has no pi05 LoRA config and users ask for one (openpi #672, #711): pi05_libero, with pi0's LoRA and
        # batches.
        dataclasses.replace(
            pi05_libero, name="pi05_libero_low_mem_finetune", model=pi05_lora, ema_decay=None, batch_size=32
        ),
    ]


def _tiny_twin(config: TrainConfig) -> TrainConfig:
    """The config with tiny sizes and ranks; it has no public checkpoint, so its weights start fresh."""
    model = tiny_model(
        config.model.family,
        dtype=config.model.dtype,
        paligemma_lora=specs.lora(4) if config.model.paligemma.has_lora else None,
        action_expert_lora=specs.lora(6) if config.model.action_expert.has_lora else None,
    )
    name, loader = config.name + TINY_SUFFIX, NoOpWeightLoader()
    return dataclasses.replace(config, name=name, model=model, weight_loader=loader, batch_size=2)


_CONFIGS = {config.name: config for real in _real_configs() for config in (real, _tiny_twin(real))}
