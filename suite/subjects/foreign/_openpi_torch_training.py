"""Training with openpi's ``scripts/train_pytorch.py``, whose loop runs as it is, on given batches.

The loop hands out its numbers to wandb alone, so an object here takes wandb's place; another takes that of the data
loader, and a third remembers the model that the loop makes.
"""

import contextlib
import functools
import io
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from ._openpi_checkout import config_of, script
from ._openpi_torch import torch_at_size
from ._policy_rules import policy_rules
from ._tensors import Params, params_of, to_torch

# isort: split
import torch
from openpi.models import model as openpi_model
from openpi.models_pytorch import pi0_pytorch, preprocessing_pytorch
from openpi.training import config as openpi_config
from openpi.training import optimizer

Data = dict[str, Any]

training = script("scripts/train_pytorch.py")


class _Wandb:
    """wandb for the loop: keeps what it logs of every step."""

    run = types.SimpleNamespace(id="none")

    def __init__(self) -> None:
        self.steps: list[Data] = []

    def log(self, values: Data, step: int) -> None:
        """Keep the values of a training step; the loop also logs images and saved steps."""
        if "loss" in values:
            self.steps.append(values | {"step": step})

    def init(self, **_: Any) -> None:
        """Start nothing."""

    def finish(self) -> None:
        """End nothing."""

    def Image(self, _: Any) -> None:
        """Draw nothing."""


class _Batches:
    """openpi's data loader: yields observations and actions. It has no norm stats."""

    def __init__(self, batches: list[Params]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[tuple[openpi_model.Observation, torch.Tensor]]:
        return map(observation_of, self._batches)

    def data_config(self) -> openpi_config.DataConfig:
        return openpi_config.DataConfig()


class _TrainConfig(openpi_config.TrainConfig):
    """openpi's config, with the folder of its checkpoints as given."""

    checkpoint_dir = property(lambda self: Path(self.checkpoint_base_dir))


def observation_of(batch: Params) -> tuple[openpi_model.Observation, torch.Tensor]:
    """Return the observation and the actions of a batch, as openpi's loader yields them."""
    tensors = {name: to_torch(array) for name, array in batch.items()}
    cameras = openpi_model.IMAGE_KEYS
    observation = openpi_model.Observation.from_dict(
        {name: tensors[name] for name in ("state", "tokenized_prompt", "tokenized_prompt_mask")}
        # Channels come before rows and columns.
        | {"image": {camera: tensors[f"image/{camera}"].movedim(-1, 1) for camera in cameras}}
        | {"image_mask": {camera: tensors[f"image_mask/{camera}"] for camera in cameras}}
    )
    return observation, tensors["actions"]


def load(model: Data, folder: str | None, seed: int) -> Params:
    """Return the params that a training starts with, from the weights in a folder or from nothing."""
    with tempfile.TemporaryDirectory() as run:
        config = _TrainConfig(**_settings(model, run, 0), seed=seed, pytorch_weight_path=folder)
        return params_of(_loop(model, config, [], {})[0].state_dict(), policy_rules(model, ""))


def run(
    model: Data, batches: list[Params], options: Data, folder: str | None, *, weights: str | None, resume: bool = False
) -> Data:
    """Run the loop over the batches, or over those that a run's latest step has not seen."""
    with contextlib.ExitStack() as stack:
        place = folder or stack.enter_context(tempfile.TemporaryDirectory())
        done = training.get_latest_checkpoint_step(Path(place)) or 0 if resume else 0
        config = _TrainConfig(
            **_settings(model, place, len(batches)),
            **_optimizer(options["optimizer"]),
            seed=options["seed"],
            ema_decay=options["ema_decay"],
            pytorch_weight_path=weights,
            resume=resume,
        )
        draws = {name: list(options[name][done:]) for name in ("noise", "time") if options.get(name) is not None}
        trained, steps = _loop(model, config, batches[done:], draws)
    return {
        "params": params_of(trained.state_dict(), policy_rules(model, "")),
        "losses": [step["loss"] for step in steps],
        "grad_norms": [step["grad_norm"] for step in steps],
        "averaged": None,
        "compiled": None,
        "optimizer_bytes": None,
        "device_bytes": None,
    }


def _settings(model: Data, folder: str, num_steps: int) -> Data:
    """Return the settings of a run in a folder that saves its last step."""
    return {
        "name": "train",
        "model": config_of(model),
        "pytorch_training_precision": model["dtype"],
        "checkpoint_base_dir": folder,
        "num_train_steps": num_steps,
        "log_interval": 1,
        "save_interval": max(num_steps, 1),
        # The loop logs images of the first batch, if there is one.
        "wandb_enabled": num_steps > 0,
    }


def _optimizer(settings: Data) -> Data:
    adamw = {name: settings[name] for name in ("b1", "b2", "eps", "weight_decay")}
    return {
        "optimizer": optimizer.AdamW(**adamw, clip_gradient_norm=settings["clip"]),
        "lr_schedule": optimizer.CosineDecaySchedule(**settings["schedule"]),
    }


def _loop(
    model: Data, config: _TrainConfig, batches: list[Params], draws: dict[str, list[Any]]
) -> tuple[torch.nn.Module, list[Data]]:
    """Run the script's loop; return the model that it trained and what it logged of each step."""
    wandb, made = _Wandb(), []

    def make(*args: Any, of: Any = pi0_pytorch.PI0Pytorch) -> torch.nn.Module:
        made.append(of(*args))
        return made[-1]

    loaders = types.SimpleNamespace(create_data_loader=lambda *_, **__: _Batches(batches))
    with (
        torch_at_size(model),
        drawn(draws.get("noise"), draws.get("time")),
        mock.patch.object(pi0_pytorch, "PI0Pytorch", make),
        mock.patch.multiple(training, wandb=wandb, _data=loaders),
        # Where it draws its progress.
        contextlib.redirect_stderr(io.StringIO()),
    ):
        training.train_loop(config)
    return made[-1], wandb.steps


@contextlib.contextmanager
def drawn(noise: list[Any] | None, time: list[Any] | None) -> Iterator[None]:
    """Have models draw these noises and times, one per step, in the body; with both given, nothing else is random."""
    draw = {"sample_noise": noise, "sample_time": time}
    given = {name: map(to_torch, values) for name, values in draw.items() if values is not None}
    with contextlib.ExitStack() as stack:
        for name, values in given.items():
            next_value = functools.partial(_next, values)
            stack.enter_context(mock.patch.object(pi0_pytorch.PI0Pytorch, name, next_value))
        if given.keys() == draw.keys():
            stack.enter_context(images_as_they_are())
        yield


def _next(values: Iterator[torch.Tensor], *_: Any) -> torch.Tensor:
    return next(values)


@contextlib.contextmanager
def images_as_they_are() -> Iterator[None]:
    """Turn image augmentation off in the body, which the model applies whenever it computes a loss."""
    preprocess = preprocessing_pytorch.preprocess_observation_pytorch
    with mock.patch.object(
        preprocessing_pytorch,
        "preprocess_observation_pytorch",
        lambda observation, *, train: preprocess(observation, train=False),
    ):
        yield
