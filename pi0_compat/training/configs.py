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
    """Linear warm-up to ``peak_lr``, then a cosine to ``decay_lr``.

    Attributes:
      warmup_steps: the step at which ``peak_lr`` is reached.
      peak_lr: the largest learning rate.
      decay_steps: the step at which ``decay_lr`` is reached, warm-up included.
      decay_lr: the learning rate from then on.
    """

    warmup_steps: int = 1_000
    peak_lr: float = 2.5e-5
    decay_steps: int = 30_000
    decay_lr: float = 2.5e-6

    def create(self) -> optax.Schedule:
        """Return the schedule, step -> learning rate; step 0 already moves, at peak_lr / (warmup_steps + 1)."""
        return optax.warmup_cosine_decay_schedule(
            init_value=self.peak_lr / (self.warmup_steps + 1),
            peak_value=self.peak_lr,
            warmup_steps=self.warmup_steps,
            decay_steps=self.decay_steps,
            end_value=self.decay_lr,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW (arXiv:1711.05101) after clipping the gradients' global norm.

    Attributes:
      b1: decay of the average of gradients.
      b2: decay of the average of squared gradients.
      eps: added to the root of the squared gradients.
      weight_decay: share of the weights that each step takes off, before the learning rate.
      clip_gradient_norm: the largest norm of all gradients together; larger ones are scaled down to it.
    """

    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-10
    clip_gradient_norm: float = 1.0

    def create(self, schedule: CosineDecaySchedule) -> optax.GradientTransformation:
        """Return the optimizer with the learning rates of ``schedule``."""
        adamw = optax.adamw(schedule.create(), b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(self.clip_gradient_norm), adamw)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run. The defaults are openpi's (``training/config.py`` at 15a9616).

    Attributes:
      name: what ``get_config`` finds it by.
      model: sizes, adapters and options of the model.
      weight_loader: where the first weights come from.
      ema_decay: decay of the moving average of the trainable parameters per step; None keeps no average.
      optimizer: AdamW and its clipping.
      lr_schedule: the learning rate of every step.
      frozen_dtype: the dtype that parameters frozen by LoRA are kept in.
      batch_size: samples in a step, on all devices together.
      num_train_steps: steps in the run.
      seed: draws the parameters that the loader does not have.
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
        """Return the nnx filter of frozen parameters: the model's, as a copy could disagree (openpi #317, #806)."""
        return self.model.freeze_filter()


def get_config(name: str) -> TrainConfig:
    """Return the training config of that name, for example ``pi0_libero``.

    Raises:
      ValueError: no config has this name; the message has the closest names.
    """
    named_model(name)
    return _CONFIGS[name]


def config_names() -> list[str]:
    """Return all names that ``get_config`` finds."""
    return sorted(_CONFIGS)


def _real_configs() -> list[TrainConfig]:
    models = {name: Pi0Config.of(spec) for name, spec in named_models().items()}
    pi0_base = CheckpointWeightLoader(f"{CHECKPOINTS}/pi0_base/params")
    pi05_base = CheckpointWeightLoader(f"{CHECKPOINTS}/pi05_base/params")
    fast_base = CheckpointWeightLoader(f"{CHECKPOINTS}/pi0_fast_base/params")
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
    fast_low_mem = "pi0_fast_libero_low_mem_finetune"
    return [
        TrainConfig(name="pi0_base", model=models["pi0_base"], weight_loader=pi0_base),
        TrainConfig(name="pi05_base", model=models["pi05_base"], weight_loader=pi05_base),
        TrainConfig(name="pi0_libero", model=models["pi0_libero"], weight_loader=pi0_base),
        TrainConfig(name=pi0_low_mem, model=models[pi0_low_mem], weight_loader=pi0_base, ema_decay=None),
        TrainConfig(name="pi0_fast_base", model=models["pi0_fast_base"], weight_loader=fast_base),
        TrainConfig(name="pi0_fast_libero", model=models["pi0_fast_libero"], weight_loader=fast_base),
        TrainConfig(name=fast_low_mem, model=models[fast_low_mem], weight_loader=fast_base, ema_decay=None),
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
