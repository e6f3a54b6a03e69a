"""A loader and a training step of a few lines to try the gate on: tests plant mistakes by replacing text."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

NAME = "toy"
TRAITS = ()


def describe() -> dict[str, Any]:
    return {"packages": {}, "device": "cpu"}


def bench_paligemma_state(job: dict[str, Any]) -> Any:
    def load() -> dict[str, Any]:
        start = time.process_time()
        with np.load(job["path"]) as archive:
            leaves = {name: _leaf(archive, name) for name in archive.files}
        _work(0.0 * (time.process_time() - start))
        return leaves

    return load


def _leaf(archive: Any, name: str) -> Any:
    stored = archive[name]
    half = stored.astype(ml_dtypes.bfloat16)
    return jnp.asarray(half)


def _work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def bench_train_step(job: dict[str, Any]) -> dict[str, Any]:
    inputs = jnp.ones((16, 64), jnp.float32)

    def step(weights: Any, inputs: Any) -> Any:
        loss, slope = jax.value_and_grad(lambda w: jnp.mean((inputs @ w - 1) ** 2))(weights)
        return weights - slope, loss

    return {
        "jitted": jax.jit(step, donate_argnums=0),
        "state": jnp.full((64, 4096), job["seed"], jnp.float32),
        "arguments": lambda weights: (weights, inputs),
        "after": lambda outputs: outputs,
    }
