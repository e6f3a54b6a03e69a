"""The schedule at important steps, and the optimizer's clipping."""

import jax.numpy as jnp
import numpy as np
import pytest

from pi0_compat.training.configs import AdamW, CosineDecaySchedule

SCHEDULE = CosineDecaySchedule(warmup_steps=10, peak_lr=0.5, decay_steps=100, decay_lr=0.05)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.5 / 11), (10, 0.5), (55, (0.5 + 0.05) / 2), (100, 0.05), (1000, 0.05)],
    ids=["first", "peak", "halfway_down", "end", "after"],
)
def test_schedule(step: int, rate: float) -> None:
    """The rate starts above zero, is the peak after warm-up and stays at its end value."""
    assert float(SCHEDULE.create()(step)) == pytest.approx(rate, rel=1e-5)


def test_warm_up_is_linear() -> None:
    """Every step of the warm-up adds the same amount."""
    steps = np.diff([float(SCHEDULE.create()(n)) for n in range(11)])
    np.testing.assert_allclose(steps, (0.5 - 0.5 / 11) / 10, rtol=1e-4)


def test_no_warm_up_starts_at_the_peak() -> None:
    """Without warm-up the first step has the peak rate."""
    schedule = CosineDecaySchedule(warmup_steps=0, peak_lr=0.5, decay_steps=100, decay_lr=0.05)
    assert float(schedule.create()(0)) == 0.5


def updates(optimizer: AdamW, gradient: float, steps: int) -> list[float]:
    params = {"w": jnp.zeros(4)}
    transform, changes = optimizer.create(SCHEDULE), []
    state = transform.init(params)
    for _ in range(steps):
        change, state = transform.update({"w": jnp.full(4, gradient)}, state, params)
        changes.append(float(change["w"][0]))
    return changes


def test_a_step_has_the_size_of_the_rate() -> None:
    """AdamW's steps on a constant gradient are the schedule's rates, against the gradient."""
    rates = [-float(SCHEDULE.create()(n)) for n in range(3)]
    np.testing.assert_allclose(updates(AdamW(weight_decay=0.0), 0.1, 3), rates, rtol=1e-4)


def test_gradients_are_clipped_by_their_global_norm() -> None:
    """A gradient of norm 2 is halved: with a large eps, where Adam is linear, so is the step."""
    options = {"eps": 1e6, "weight_decay": 0.0}
    (clipped,) = updates(AdamW(clip_gradient_norm=1.0, **options), 1.0, 1)
    (free,) = updates(AdamW(clip_gradient_norm=10.0, **options), 1.0, 1)
    assert clipped == pytest.approx(free / 2, rel=1e-5)
