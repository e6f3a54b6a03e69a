"""Named training configs: the model, where its weights come from, the optimizer, and how it is trained.

Names and values are openpi's (``training/config.py`` at 15a9616). Every config has a twin ``<name>_tiny`` of the same
family and the same LoRA, small enough for a test.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from pi0_compat.loading.loaders import CheckpointWeightLoader, NoOpWeightLoader, WeightLoader
from pi0_compat.loading.missing import MissingWeightLoader
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.named import TINY_SUFFIX, named_model, named_models, pi0_model
from pi0_compat.params import join
from pi0_compat.paths import VISION

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
      frozen_dtype: the dtype that frozen parameters are kept in.
      freeze_vision: whether the image encoder is frozen too. openpi's configs train it, with adapters as well.
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
    freeze_vision: bool = False
    batch_size: int = 32
    num_train_steps: int = 30_000
    seed: int = 42

    @property
    def freeze_filter(self) -> Callable[[tuple[Any, ...], Any], bool]:
        """Return the nnx filter of frozen parameters: from the model, as a copy could disagree (openpi #317, #806)."""
        return lambda path, _: self.is_frozen(join(str(part) for part in path))

    def is_frozen(self, path: str) -> bool:
        """Return whether training leaves a parameter alone: the model's rule, and ``freeze_vision``."""
        return self.model.is_frozen(path) or (self.freeze_vision and path.startswith(VISION))


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


class _Run(NamedTuple):
    """How a named config is trained.

    Attributes:
      weights: the checkpoint to start from, below ``CHECKPOINTS``; None where the config names none.
      served: where it names none, the released checkpoint that openpi serves with it; None if none is public.
    """

    weights: str | None = None
    served: str | None = None
    ema_decay: float | None = 0.99
    batch_size: int = 32
    num_train_steps: int = 30_000
    lr_schedule: CosineDecaySchedule = CosineDecaySchedule()


# Warm-up, then a constant rate.
_CONSTANT = CosineDecaySchedule(warmup_steps=1_000, peak_lr=5e-5, decay_steps=1_000_000, decay_lr=5e-5)
_SLOWLY_CONSTANT = dataclasses.replace(_CONSTANT, warmup_steps=10_000)
_ROBOARENA = (
    *("paligemma_binning_droid", "paligemma_diffusion_droid", "paligemma_fast_droid"),
    *("paligemma_fast_specialist_droid", "paligemma_vq_droid"),
)
_POLARIS = (
    *("pi05_droid_jointpos_polaris", "pi0_droid_jointpos_100k_polaris", "pi0_droid_jointpos_polaris"),
    "pi0_fast_droid_jointpos_polaris",
)
# A folder in the place of a URL starts below the working folder, as in openpi.
_RUNS: dict[str, _Run] = {
    "debug": _Run(batch_size=2, num_train_steps=10),
    "debug_pi05": _Run(batch_size=2, num_train_steps=10),
    "debug_restore": _Run("./checkpoints/debug/debug/9", batch_size=2, num_train_steps=10),
    **{name: _Run(served=f"roboarena/{name}") for name in _ROBOARENA},
    "paligemma_binning_droid_jointpos": _Run(),
    **{
        name: _Run(f"polaris/{name}", batch_size=128, num_train_steps=1_000, lr_schedule=_CONSTANT) for name in _POLARIS
    },
    "pi05_aloha": _Run(served="pi05_base"),
    "pi05_aloha_pen_uncap": _Run("pi05_base", batch_size=64, num_train_steps=20_000),
    "pi05_droid": _Run(served="pi05_droid"),
    "pi05_droid_finetune": _Run("pi05_droid", num_train_steps=20_000),
    "pi05_full_droid_finetune": _Run("pi05_base", batch_size=256, num_train_steps=100_000, lr_schedule=_CONSTANT),
    "pi05_libero": _Run("pi05_base", ema_decay=0.999, batch_size=256, lr_schedule=_SLOWLY_CONSTANT),
    "pi0_aloha": _Run(served="pi0_base"),
    "pi0_aloha_pen_uncap": _Run("pi0_base", num_train_steps=20_000),
    "pi0_aloha_sim": _Run("pi0_base", num_train_steps=20_000),
    "pi0_aloha_towel": _Run(served="pi0_aloha_towel"),
    "pi0_aloha_tupperware": _Run(served="pi0_aloha_tupperware"),
    "pi0_droid": _Run(served="pi0_droid"),
    "pi0_fast_droid": _Run(served="pi0_fast_droid"),
    "pi0_fast_full_droid_finetune": _Run(
        "pi0_fast_base", batch_size=256, num_train_steps=100_000, lr_schedule=_CONSTANT
    ),
    "pi0_fast_libero": _Run("pi0_fast_base"),
    "pi0_fast_libero_low_mem_finetune": _Run("pi0_fast_base", ema_decay=None),
    "pi0_libero": _Run("pi0_base"),
    "pi0_libero_low_mem_finetune": _Run("pi0_base", ema_decay=None),
    "pi0_base": _Run("pi0_base"),
    "pi05_base": _Run("pi05_base"),
    "pi0_fast_base": _Run("pi0_fast_base"),
    # The schedule of the full fine-tuning, with LoRA's batches and no average.
    "pi05_libero_low_mem_finetune": _Run("pi05_base", ema_decay=None, lr_schedule=_SLOWLY_CONSTANT),
    "pi05_droid_low_mem_finetune": _Run("pi05_droid", ema_decay=None, num_train_steps=20_000),
    "pi05_aloha_low_mem_finetune": _Run("pi05_base", ema_decay=None, num_train_steps=20_000),
    "pi0_fast_droid_low_mem_finetune": _Run("pi0_fast_base", ema_decay=None),
}


def _real_config(name: str, run: _Run) -> TrainConfig:
    return TrainConfig(
        name=name,
        model=Pi0Config.of(named_models()[name]),
        weight_loader=_loader(name, run),
        ema_decay=run.ema_decay,
        lr_schedule=run.lr_schedule,
        batch_size=run.batch_size,
        num_train_steps=run.num_train_steps,
    )


def _loader(name: str, run: _Run) -> WeightLoader:
    if run.weights:
        root = run.weights if run.weights.startswith(".") else f"{CHECKPOINTS}/{run.weights}"
        return CheckpointWeightLoader(f"{root}/params")
    # Only configs for debugging are meant to start from nothing.
    served = run.served and f"{CHECKPOINTS}/{run.served}"
    return NoOpWeightLoader() if name.startswith("debug") else MissingWeightLoader(name, served)


def _tiny_twin(config: TrainConfig) -> TrainConfig:
    """Return the config with tiny sizes; it has no public checkpoint, so its weights start fresh."""
    name = f"{config.name}{TINY_SUFFIX}"
    return dataclasses.replace(
        config, name=name, model=Pi0Config.of(named_models()[name]), weight_loader=NoOpWeightLoader(), batch_size=2
    )


_REAL = [_real_config(name, run) for name, run in _RUNS.items()]
_CONFIGS = {config.name: config for real in _REAL for config in (real, _tiny_twin(real))}
