"""Fixtures that take seconds to compile and are shared: one velocity, one sampler, one training step."""

import dataclasses
import gc
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest

from pi0_compat.training.step import TrainState, make_train_state, make_train_step
from tests.pi0_compat import tiny_models
from tests.pi0_compat.tiny_models import LORA, Params

Batch = dict[str, np.ndarray]


def reads_damage(test: Callable) -> Callable:
    """Mark a test in which orbax fails to read: its other reads end as coroutines that are never awaited.

    They warn when they are collected, at any later time, so they are collected at the end of the test.
    """
    marks = pytest.mark.usefixtures("collect_orphans")
    return marks(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")(test))


@pytest.fixture
def collect_orphans() -> Iterator[None]:
    yield
    gc.collect()


@dataclasses.dataclass(frozen=True)
class Training:
    """The shared run: its compiled step, the state before the first step, and the states and infos of two steps."""

    step: Any
    start: Params
    states: tuple[TrainState, ...]
    infos: tuple[dict[str, Any], ...]
    donated: TrainState

    @staticmethod
    def fresh_state() -> TrainState:
        return make_train_state(tiny_models.train_config(), tiny_models.lora_params())


@pytest.fixture(scope="session")
def velocity() -> Callable[..., np.ndarray]:
    """Return the velocity of ``LORA`` for a batch, optionally at other times."""
    params = jax.device_put(tiny_models.lora_params())
    compiled = jax.jit(lambda *inputs: LORA.merge(params).velocity(*inputs))

    def call(batch: Batch, time: np.ndarray | None = None) -> np.ndarray:
        time = batch["time"] if time is None else time
        return np.asarray(compiled(tiny_models.observation(batch), batch["noise"], time))

    return call


@pytest.fixture(scope="session")
def sample_once() -> Callable[[Batch], np.ndarray]:
    """Return one Euler step of ``LORA`` from a batch's noise, through the cache."""
    params, key = jax.device_put(tiny_models.lora_params()), jax.random.key(0)
    compiled = jax.jit(
        lambda observation, noise: LORA.merge(params).sample_actions(key, observation, num_steps=1, noise=noise)
    )
    return lambda batch: np.asarray(compiled(tiny_models.observation(batch), batch["noise"]))


@pytest.fixture(scope="session")
def training() -> Training:
    """Run two steps of the shared run on its batch."""
    config, batch = tiny_models.train_config(), tiny_models.batch()
    step = make_train_step(config)
    start = tiny_models.lora_params()
    donated = state = make_train_state(config, start)
    inputs = (tiny_models.observation(batch), batch["actions"])
    states, infos = [], []
    for _ in range(2):
        state, info = step(state, jax.random.key(0), inputs)
        # A copy on the host, since the next step is donated the state's own buffers.
        states.append(jax.device_get(state))
        infos.append(jax.device_get(info))
    return Training(step, start, tuple(states), tuple(infos), donated)
