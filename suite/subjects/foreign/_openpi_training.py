"""Training with openpi's ``scripts/train.py``: first state, steps, saving and resuming."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from ._openpi_checkout import abstract, at_size, config_of, filled, flat, key_of, nested, script
from ._openpi_inputs import drawn, images_as_they_are, observation_of

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from openpi.training import checkpoints, optimizer, sharding, weight_loaders
from openpi.training import config as openpi_config
from openpi.training.utils import TrainState

Params = dict[str, np.ndarray]
Data = dict[str, Any]


class _TracedOnce:
    """jax for the script: what ``init_train_state`` traces for a config is reused for the same config."""

    def __init__(self) -> None:
        self.key = ""
        self._known: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(jax, name)

    def eval_shape(self, function: Any, *args: Any) -> Any:
        if self.key not in self._known:
            self._known[self.key] = {"function": function, "shape": jax.eval_shape(function, *args)}
        return self._known[self.key]["shape"]

    def jit(self, function: Any, **options: Any) -> Any:
        known = self._known[self.key]
        # Another function of the same config would have another optimizer in its state's structure.
        return known.setdefault("jit", jax.jit(known["function"], **options))


script_of_training = script("scripts/train.py")
_traced_once = script_of_training.jax = _TracedOnce()


@dataclasses.dataclass(frozen=True)
class _Given(weight_loaders.WeightLoader):
    """A loader of given params; as openpi's loaders do, it returns them in training's dtypes."""

    params: Any

    def load(self, params: Any) -> Any:
        return weight_loaders._merge_params(nested(self.params), params, missing_regex="")


@dataclasses.dataclass(frozen=True)
class _NoOptimizer(optimizer.OptimizerConfig):
    """An optimizer without state, which is no part of a load."""

    def create(self, lr: Any, weight_decay_mask: Any = None) -> optax.GradientTransformation:
        return optax.identity()


class _NoData:
    """A data loader for saving, which only reads norm stats; it has none."""

    def data_config(self) -> openpi_config.DataConfig:
        return openpi_config.DataConfig()


def load(model: Data, loader: weight_loaders.WeightLoader, seed: int) -> Params:
    """Return the params that a full fine-tuning starts with. Freezing rounds to bfloat16 and is no part of a load."""
    config = openpi_config.TrainConfig(
        name="load", model=config_of(model), weight_loader=loader, optimizer=_NoOptimizer(), ema_decay=None
    )
    with at_size(model):
        state, _ = _first_state(config, key_of(model), seed)
    return flat(state.params)


def begin(model: Data, source: Data, options: Data) -> Data:
    with loader_of(**source) as loader, _training(model, options, loader) as config:
        state, _ = _first_state(config, _key(model, options), options["seed"])
    return {"device_bytes": _device_bytes(state)}


def train(model: Data, params: Params, batches: list[Params], options: Data, folder: str | None = None) -> Data:
    with _training(model, options, _Given(params)) as config, _run(folder) as (manager, _):
        state, places = _first_state(config, _key(model, options), options["seed"])
        state = _in_asked_dtype(model, state, places, params, options)
        state, infos = _steps(config, _key(model, options), state, places, batches, options)
        if manager:
            _save(manager, state)
    return _result(state, infos)


def resume(model: Data, batches: list[Params], options: Data, folder: str, step: int | None = None) -> Data:
    fresh = weight_loaders.NoOpWeightLoader()
    with _training(model, options, fresh) as config, _run(folder) as (manager, resuming):
        state, places = _first_state(config, _key(model, options), options["seed"], resume=resuming)
        if resuming:
            state = checkpoints.restore_state(manager, state, _NoData(), step)
        state, infos = _steps(config, _key(model, options), state, places, batches, options)
        if infos:
            _save(manager, state)
    return _result(state, infos)


def _key(model: Data, options: Data) -> str:
    """The part of a training that does not depend on its values."""
    return key_of({"model": model} | {name: x for name, x in options.items() if name not in ("noise", "time", "seed")})


def save(model: Data, params: Params, path: str) -> None:
    """Save a run of one step, step 0, with these params."""
    graphdef, _ = abstract(model)
    leaves = {tuple(name.split("/")): nnx.VariableState(nnx.Param, jnp.asarray(x)) for name, x in params.items()}
    nothing = optax.identity()
    state = TrainState(
        step=0,
        params=nnx.State.from_flat_path(leaves),
        model_def=graphdef,
        tx=nothing,
        opt_state=nothing.init({}),
        ema_decay=None,
    )
    manager, _ = checkpoints.initialize_checkpoint_dir(path, keep_period=None, overwrite=False, resume=False)
    with contextlib.closing(manager):
        checkpoints.save_state(manager, state, _NoData(), 0)
        manager.wait_until_finished()


@contextlib.contextmanager
def loader_of(kind: str, path: str = "") -> Iterator[weight_loaders.WeightLoader]:
    """Yield openpi's loader for a source. PaliGemma's downloads a release; in the body it gets a local file instead."""
    if kind == "openpi":
        yield weight_loaders.CheckpointWeightLoader(path)
    elif kind == "paligemma_npz":
        with mock.patch.object(weight_loaders.download, "maybe_download", return_value=Path(path)):
            yield weight_loaders.PaliGemmaWeightLoader()
    elif kind == "nothing":
        yield weight_loaders.NoOpWeightLoader()
    else:
        raise ValueError(f"openpi reads nothing of kind {kind!r}")


@contextlib.contextmanager
def _training(model: Data, options: Data, loader: weight_loaders.WeightLoader) -> Iterator[openpi_config.TrainConfig]:
    """Yield openpi's config for a training; in the body, openpi has the model's sizes and shards as requested."""
    settings = options["optimizer"]
    adamw = {name: settings[name] for name in ("b1", "b2", "eps", "weight_decay")}
    shard_above = options["shard_above"]
    least = {} if shard_above is None else {"min_size_mbytes": shard_above / 2**20}
    with at_size(model), mock.patch.dict(sharding.fsdp_sharding.__kwdefaults__, least):
        yield openpi_config.TrainConfig(
            name="train",
            model=config_of(model),
            weight_loader=loader,
            optimizer=optimizer.AdamW(**adamw, clip_gradient_norm=settings["clip"]),
            lr_schedule=optimizer.CosineDecaySchedule(**settings["schedule"]),
            ema_decay=options["ema_decay"],
            freeze_filter=config_of(model).get_freeze_filter(),
            fsdp_devices=1 if shard_above is None else jax.device_count(),
        )


def _first_state(config: openpi_config.TrainConfig, key: str, seed: int, *, resume: bool = False) -> tuple[Any, Any]:
    """Return a training's first state, or its shapes to resume into, and its shardings."""
    _traced_once.key = key
    mesh, (_, rng) = sharding.make_mesh(config.fsdp_devices), jax.random.split(jax.random.key(seed))
    return script_of_training.init_train_state(config, rng, mesh, resume=resume)


def _in_asked_dtype(model: Data, state: TrainState, places: Any, params: Params, options: Data) -> TrainState:
    """Replace frozen params, which openpi keeps in bfloat16, by the given ones if float32 is requested."""
    if options["frozen_dtype"] == "bfloat16":
        return state
    given = filled(model, params)[1]
    averaged = None if state.ema_params is None else jax.device_put(given, places.ema_params)
    return dataclasses.replace(state, params=jax.device_put(given, places.params), ema_params=averaged)


def _steps(
    config: openpi_config.TrainConfig, key: str, state: TrainState, places: Any, batches: list[Params], options: Data
) -> tuple[TrainState, list[Data]]:
    """Run the steps from the state's own step on, one per batch, as the script's loop does."""
    mesh, infos = sharding.make_mesh(config.fsdp_devices), []
    rng, _ = jax.random.split(jax.random.key(options["seed"]))
    draws = [options.get(name) for name in ("noise", "time")]
    step = _step(config, key, mesh, places)
    for n in range(int(state.step), len(batches)):
        noise, time = (None if draw is None else draw[n] for draw in draws)
        programs = step._cache_size()
        with sharding.set_mesh(mesh):
            state, info = step(rng, state, observation_of(batches[n]), noise, time)
        infos.append(info | {"compiled": step._cache_size() - programs})
    return state, infos


_known_steps: dict[str, Any] = {}


def _step(config: openpi_config.TrainConfig, key: str, mesh: jax.sharding.Mesh, places: Any) -> Any:
    """Return the script's step, compiled as the script compiles it."""
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(sharding.DATA_AXIS))

    def step(rng: Any, state: TrainState, batch: Any, noise: Any, time: Any) -> Any:
        # pi0-FAST needs no noise: its loss is openpi's only without augmentation.
        as_they_are = noise is not None or batch[0].token_ar_mask is not None
        with drawn(noise, time), images_as_they_are() if as_they_are else contextlib.nullcontext():
            return script_of_training.train_step(config, rng, state, batch)

    if key not in _known_steps:
        _known_steps[key] = jax.jit(
            step,
            in_shardings=(everywhere, places, spread, spread, spread),
            out_shardings=(places, everywhere),
            donate_argnums=(1,),
        )
    return _known_steps[key]


@contextlib.contextmanager
def _run(folder: str | None) -> Iterator[tuple[Any, bool]]:
    """Return the manager of a run's folder, which may exist, and whether it has a step to resume."""
    if folder is None:
        yield None, False
        return
    # openpi keeps steps that the period divides; a period of 1 keeps all.
    manager, resuming = checkpoints.initialize_checkpoint_dir(folder, keep_period=1, overwrite=False, resume=True)
    with contextlib.closing(manager):
        yield manager, resuming


def _save(manager: Any, state: TrainState) -> None:
    checkpoints.save_state(manager, state, _NoData(), int(state.step))
    manager.wait_until_finished()


def _device_bytes(tree: Any) -> list[int]:
    """Return the bytes of a tree that each device holds."""
    held = dict.fromkeys(jax.devices(), 0)
    for array in jax.tree.leaves(tree):
        for device in array.sharding.device_set:
            held[device] += math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize
    return list(held.values())


def _result(state: TrainState, infos: list[Data]) -> Data:
    return {
        "params": flat(state.params),
        "losses": [float(info["loss"]) for info in infos],
        "grad_norms": [float(info["grad_norm"]) for info in infos],
        "averaged": None if state.ema_params is None else flat(state.ema_params),
        "compiled": [info["compiled"] for info in infos],
        "optimizer_bytes": sum(x.nbytes for x in jax.tree.leaves(state.opt_state)),
        "device_bytes": _device_bytes(state),
    }
