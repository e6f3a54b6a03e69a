"""Named training configs: the model, where its weights come from, the optimizer, and how it is trained.

Names and values are openpi's (``training/config.py`` at 15a9616). Every config has a twin ``<name>_tiny`` of the same
family and the same LoRA, small enough for a test.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import optax

from pi0_compat.loading.loaders import CheckpointWeightLoader, NoOpWeightLoader, WeightLoader
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.named import TINY_SUFFIX, named_model, named_models, pi0_model

CHECKPOINTS = "gs://openpi-assets/checkpoints"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineDecaySchedule:
    """Linear warm-up to ``peak_lr``, then a cosine to ``decay_lr`` at step ``decay_steps``."""

    warmup_steps: int = 1_000
    peak_lr: float = 2.5e-5
    decay_steps: int = 30_000
    decay_lr: float = 2.5e-6

    def create(self) -> optax.Schedule:
        """Step -> learning rate; step 0 already moves, at peak_lr / (warmup_steps + 1)."""
        return optax.warmup_cosine_decay_schedule(
            init_value=self.peak_lr / (self.warmup_steps + 1),
            peak_value=self.peak_lr,
            warmup_steps=self.warmup_steps,
            decay_steps=self.decay_steps,
            end_value=self.decay_lr,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW after clipping the gradients' global norm."""

    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-10
    clip_gradient_norm: float = 1.0

    def create(self, schedule: CosineDecaySchedule) -> optax.GradientTransformation:
        adamw = optax.adamw(schedule.create(), b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(self.clip_gradient_norm), adamw)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
      ema_decay: of the moving average of the trainable parameters; None for none.
      frozen_dtype: what parameters that LoRA freezes are kept in.
    """

    name: str = "unnamed"
    model: Pi0Config = dataclasses.field(default_factory=lambda: Pi0Config.of(pi0_model()))
    weight_loader: WeightLoader = NoOpWeightLoader()
    ema_decay: float | None = 0.99
    optimizer: AdamW = AdamW()
    lr_schedule: CosineDecaySchedule = CosineDecaySchedule()
    frozen_dtype: str = "bfloat16"
    batch_size: int = 32
    num_train_steps: int = 30_000
    seed: int = 42

    @property
    def freeze_filter(self) -> Callable[[tuple[Any, ...], Any], bool]:
        """The nnx filter of frozen parameters: the model's own, as a copy could disagree (openpi #317, #806)."""
        return self.model.freeze_filter()


def get_config(name: str) -> TrainConfig:
    """The config of that name.

    Raises:
      ValueError: there is none; the message has the closest names.
    """
    named_model(name)
    return _CONFIGS[name]


def config_names() -> list[str]:
    """All names that ``get_config`` knows."""
    return sorted(_CONFIGS)


def _real_configs() -> list[TrainConfig]:
    models = {name: Pi0Config.of(spec) for name, spec in named_models().items()}
    pi0_base = CheckpointWeightLoader(f"{CHECKPOINTS}/pi0_base/params")
    pi05_base = CheckpointWeightLoader(f"{CHECKPOINTS}/pi05_base/params")
    pi05_libero = TrainConfig(
        name="pi05_libero",
        model=models["pi05_libero"],
        weight_loader=pi05_base,
        # A long warm-up to a constant rate.
        lr_schedule=CosineDecaySchedule(warmup_steps=10_000, peak_lr=5e-5, decay_steps=1_000_000, decay_lr=5e-5),
        ema_decay=0.999,
        batch_size=256,
    )
    pi0_low_mem, pi05_low_mem = "pi0_libero_low_mem_finetune", "pi05_libero_low_mem_finetune"
    return [
        TrainConfig(name="pi0_base", model=models["pi0_base"], weight_loader=pi0_base),
        TrainConfig(name="pi05_base", model=models["pi05_base"], weight_loader=pi05_base),
        TrainConfig(name="pi0_libero", model=models["pi0_libero"], weight_loader=pi0_base),
        TrainConfig(name=pi0_low_mem, model=models[pi0_low_mem], weight_loader=pi0_base, ema_decay=None),
        pi05_libero,
        # openpi has no pi05 LoRA config and users ask for one (openpi #672, #711): pi05_libero, with pi0's LoRA and
        # batches.
        dataclasses.replace(pi05_libero, name=pi05_low_mem, model=models[pi05_low_mem], ema_decay=None, batch_size=32),
    ]


def _tiny_twin(config: TrainConfig) -> TrainConfig:
    """Return the config with tiny sizes; it has no public checkpoint, so its weights start fresh."""
    name = f"{config.name}{TINY_SUFFIX}"
    return dataclasses.replace(
        config, name=name, model=Pi0Config.of(named_models()[name]), weight_loader=NoOpWeightLoader(), batch_size=2
    )


_CONFIGS = {config.name: config for real in _real_configs() for config in (real, _tiny_twin(real))}
