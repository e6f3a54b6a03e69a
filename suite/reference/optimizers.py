"""AdamW and the cosine schedule as openpi configures them (``training/optimizer.py`` at 15a9616), made by optax."""

import dataclasses

import optax


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
