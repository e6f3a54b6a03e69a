"""The reference implementation as a subject, in this process."""

import functools
import warnings
from importlib import metadata
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from suite.reference import adapters, checkpoints, train_checkpoints, weight_loaders
from suite.reference import train as training
from suite.reference.configs import TrainConfig
from suite.reference.optimizers import AdamW, CosineDecaySchedule
from suite.reference.params import to_numpy
from suite.reference.pi0 import CAMERAS, Observation, draw_noise_and_time
from suite.reference.pi0_config import Pi0Config

NAME = "reference"
TRAITS = ("pi0", "pi05", "lora", "paligemma_npz", "load_report", "openpi_keys", "moving_average")

Params: TypeAlias = dict[str, np.ndarray]
# Of three steps of a tiny model, compiling is nearly all the time: with it a run takes half as long.
_QUICK_COMPILE = {"xla_backend_optimization_level": 0}

# Specs, sources and options are plain JSON data.
Data: TypeAlias = dict[str, Any]


def describe() -> Data:
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    device = jax.devices()[0]
    return {
        "packages": {name: metadata.version(name) for name in packages},
        "device": f"{device.platform}: {device.device_kind}",
    }


def param_spec(model: Data) -> dict[str, tuple[tuple[int, ...], str]]:
    spec = Pi0Config.from_json(model).param_spec()
    return {path: (tuple(leaf.shape), leaf.dtype.name) for path, leaf in spec.items()}


def init(model: Data, seed: int) -> Params:
    return to_numpy(Pi0Config.from_json(model).init_params(seed))


def restore(path: str, dtype: str | None) -> Params:
    return checkpoints.restore_params(path, restore_type=np.ndarray, dtype=dtype and jnp.dtype(dtype))


def load(model: Data, source: Data, seed: int) -> Data:
    loader = _loader(**source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        params, report = loader.load(Pi0Config.from_json(model), seed=seed)
    return {
        "params": params,
        "report": {entry.path: entry.status.value for entry in report.entries},
    }


def load_for_inference(model: Data, path: str) -> Params:
    params = checkpoints.restore_params(path, restore_type=np.ndarray)
    Pi0Config.from_json(model).load(params)
    return params


def save(model: Data, params: Params, path: str) -> None:
    checkpoints.save_params(params, path, config=Pi0Config.from_json(model))


def loss(model: Data, params: Params, batch: Params, noise: Any, time: Any, seed: int) -> np.ndarray:
    # Drawing apart from the forward pass gives the same numbers and one program for both kinds of call.
    drawn_noise, drawn_time = _draw(jax.random.key(seed), batch["actions"].shape)
    noise, time = drawn_noise if noise is None else noise, drawn_time if time is None else time
    return np.asarray(_compiled_loss(Pi0Config.from_json(model))(params, *_split(batch), noise, time))


def sample_actions(model: Data, params: Params, batch: Params, noise: np.ndarray, num_steps: int) -> np.ndarray:
    sample = _compiled_sample(Pi0Config.from_json(model), num_steps)
    return np.asarray(sample(params, _split(batch)[0], noise))


def embed_prefix(model: Data, params: Params, batch: Params) -> np.ndarray:
    embed = _compiled_prefix(Pi0Config.from_json(model))
    return np.asarray(embed(params, _split(batch)[0]))


def trainable(model: Data) -> list[str]:
    return training.trainable_paths(Pi0Config.from_json(model))


def train(model: Data, params: Params, batches: list[Params], options: Data) -> Data:
    config = _train_config(model, options)
    return _result(*_steps(config, training.make_train_state(config, params), batches, options))


def resume(
    model: Data,
    params: Params,
    batches: list[Params],
    options: Data,
    interrupt_after: int,
    folder: str,
) -> Data:
    config = _train_config(model, options)
    state, before = _steps(config, training.make_train_state(config, params), batches[:interrupt_after], options)
    with train_checkpoints.open_run(folder) as run:
        train_checkpoints.save_train_state(run, config, state)
    with train_checkpoints.open_run(folder) as run:
        state = train_checkpoints.resume_train_state(run, config)
    state, after = _steps(config, state, batches[interrupt_after:], options)
    return _result(state, before + after)


def fold(model: Data, params: Params) -> Params:
    return adapters.fold(params, Pi0Config.from_json(model))


def _loader(kind: str, path: str = "") -> weight_loaders.WeightLoader:
    if kind == "checkpoint":
        return weight_loaders.CheckpointWeightLoader(path)
    if kind == "paligemma":
        return weight_loaders.PaliGemmaWeightLoader(path)
    return weight_loaders.NoOpWeightLoader()


def _split(batch: Params) -> tuple[Observation, np.ndarray]:
    observation = Observation(
        images={camera: batch[f"image/{camera}"] for camera in CAMERAS},
        image_masks={camera: batch[f"image_mask/{camera}"] for camera in CAMERAS},
        state=batch["state"],
        tokenized_prompt=batch["tokenized_prompt"],
        tokenized_prompt_mask=batch["tokenized_prompt_mask"],
    )
    return observation, batch["actions"]


_draw = jax.jit(draw_noise_and_time, static_argnums=1)


@functools.lru_cache
def _compiled_loss(config: Pi0Config) -> Any:
    return jax.jit(
        lambda params, observation, actions, noise, time: config.merge(params).compute_loss(
            jax.random.key(0), observation, actions, noise=noise, time=time
        )
    )


@functools.lru_cache
def _compiled_sample(config: Pi0Config, num_steps: int) -> Any:
    key = jax.random.key(0)
    return jax.jit(
        lambda params, observation, noise: config.merge(params).sample_actions(
            key, observation, noise=noise, num_steps=num_steps
        )
    )


@functools.lru_cache
def _compiled_prefix(config: Pi0Config) -> Any:
    return jax.jit(lambda params, observation: config.merge(params).embed_prefix(observation)[0])


@functools.lru_cache
def _compiled_step(config: TrainConfig) -> Any:
    return training.make_train_step(config, compiler_options=_QUICK_COMPILE)


def _train_config(model: Data, options: Data) -> TrainConfig:
    optimizer = options["optimizer"]
    adamw = {name: optimizer[name] for name in ("b1", "b2", "eps", "weight_decay")}
    return TrainConfig(
        model=Pi0Config.from_json(model),
        optimizer=AdamW(**adamw, clip_gradient_norm=optimizer["clip"]),
        lr_schedule=CosineDecaySchedule(**optimizer["schedule"]),
        ema_decay=options["ema_decay"],
        frozen_dtype=options["frozen_dtype"],
    )


def _steps(
    config: TrainConfig, state: training.TrainState, batches: list[Params], options: Data
) -> tuple[training.TrainState, list[Data]]:
    key, done, infos = jax.random.key(options["seed"]), int(state.step), []
    draws = [options.get(name) for name in ("noise", "time")]
    for n, batch in enumerate(batches, start=done):
        noise, time = (None if draw is None else draw[n] for draw in draws)
        state, info = _compiled_step(config)(state, key, _split(batch), noise, time)
        infos.append(info)
    return state, infos


def _result(state: training.TrainState, infos: list[Data]) -> Data:
    return {
        "params": to_numpy(state.params),
        "losses": [float(info["loss"]) for info in infos],
        "grad_norms": [float(info["grad_norm"]) for info in infos],
        "averaged": None if state.ema is None else to_numpy(state.inference_params),
    }
