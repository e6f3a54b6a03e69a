"""Inputs of openpi's models: observations, and noise and time in place of drawn ones."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from . import _openpi_checkout  # noqa: F401 - must be imported before openpi and jax

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
from openpi.models import model as openpi_model
from openpi.models import pi0

Params = dict[str, np.ndarray]
# The cameras that openpi's Pi0FASTConfig declares; its model takes whatever an observation has.
FAST_CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")
_TOKENS = ("tokenized_prompt", "tokenized_prompt_mask", "token_ar_mask", "token_loss_mask")


def observation_of(batch: Params) -> tuple[openpi_model.Observation, Any]:
    """Return openpi's observation and the actions of a batch."""
    batch = {name: jnp.asarray(array) for name, array in batch.items()}
    cameras = FAST_CAMERAS if "token_ar_mask" in batch else openpi_model.IMAGE_KEYS
    observation = openpi_model.Observation.from_dict(
        {name: batch[name] for name in ("state", *_TOKENS) if name in batch}
        | {kind: {camera: batch[f"{kind}/{camera}"] for camera in cameras} for kind in ("image", "image_mask")}
    )
    return observation, batch["actions"]


class _Scaled:
    """A time that openpi's scaling to (0.001, 1) leaves unchanged, bit for bit."""

    def __init__(self, time: Any) -> None:
        self._time = time

    def __mul__(self, _: float) -> "_Scaled":
        return self

    def __add__(self, _: float) -> Any:
        return self._time


@contextlib.contextmanager
def drawn(noise: Any, time: Any) -> Iterator[None]:
    """Have the model draw this noise and time while a program is traced in the body; None leaves its own draws."""
    random = dict(vars(jax.random))
    random |= {} if noise is None else {"normal": lambda *_: noise}
    random |= {} if time is None else {"beta": lambda *_: _Scaled(time)}
    # Only in that module: flax checks shapes with jax's own draws.
    seen = SimpleNamespace(**vars(jax) | {"random": SimpleNamespace(**random)})
    with mock.patch.object(pi0, "jax", seen):
        yield


@contextlib.contextmanager
def images_as_they_are() -> Iterator[None]:
    """Turn image augmentation off in the body: then a step draws nothing, if noise and time are given or not needed."""
    preprocess = openpi_model.preprocess_observation
    with mock.patch.object(
        openpi_model,
        "preprocess_observation",
        lambda _, observation, *, train, **options: preprocess(None, observation, train=False, **options),
    ):
        yield
