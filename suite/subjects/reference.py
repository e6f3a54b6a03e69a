"""The harness of the reference implementation, in the suite's own process."""

import dataclasses
import functools
import math
import warnings
from importlib import metadata
from typing import Any, TypeAlias
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from pi0_compat.checkpoints import lora as lora_checkpoints
from pi0_compat.checkpoints.convert import convert_checkpoint
from pi0_compat.layouts.orbax import restore as checkpoints
from pi0_compat.layouts.orbax import untrusted
from pi0_compat.layouts.orbax.folder import find_params
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.layouts.orbax.save import save_params
from pi0_compat.loading import loaders as weight_loaders
from pi0_compat.lora import fold as lora_fold
from pi0_compat.lora import params as lora_params
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.pi0 import CAMERAS, Observation, draw_noise_and_time
from pi0_compat.model.pi0_fast import FAST_CAMERAS
from pi0_compat.params import to_numpy
from pi0_compat.storage import placement as sharding
from pi0_compat.storage.download import fetch
from pi0_compat.training import runs
from pi0_compat.training import step as training
from pi0_compat.training.compile_options import quickest
from pi0_compat.training.configs import AdamW, CosineDecaySchedule, TrainConfig
from suite.subjects import _reference_benchmarks, _reference_fast, _reference_flow, _reference_policies
from suite.subjects import _reference_planning as planning

NAME = "reference"
TRAITS = (
    *("pi0", "pi05", "pi0_fast"),
    "lora",
    "head_adapters",
    "partial",
    "openpi",
    "saved",
    "paligemma_npz",
    "hugging_face",
    "resampling",
    "gemma_flax",
    "openpi_pytorch",
    "lerobot",
    "peft_adapter",
    "every_layout",
    *("load_report", "openpi_keys", "moving_average", "dropout", "float32"),
    "counts_compilations",
    "counts_bytes",
    "sharding",
    "in_process",
    "guarded",
)
# The constants that hold the limits of ``restore_limited``.
_LIMITS = {
    "array_bytes": "_ALWAYS_PLAUSIBLE",
    "compression": "_BEST_COMPRESSION",
    "piece_bytes": "_SMALLEST_PIECE",
}

Params: TypeAlias = dict[str, np.ndarray]
# Specs, sources and options are plain JSON data.
Data: TypeAlias = dict[str, Any]


def describe() -> Data:
    # Without zstandard, loads take longer and more memory.
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorstore", "zstandard")
    device = jax.devices()[0]
    return {
        "packages": {name: _version(name) for name in packages},
        "device": f"{device.platform}: {device.device_kind}",
    }


def param_spec(model: Data) -> dict[str, tuple[tuple[int, ...], str]]:
    spec = Pi0Config.from_json(model).param_spec()
    return {path: (tuple(leaf.shape), leaf.dtype.name) for path, leaf in spec.items()}


def init(model: Data, seed: int) -> Params:
    return to_numpy(Pi0Config.from_json(model).init_params(seed))


def restore(path: str, dtype: str | None) -> Params:
    return checkpoints.restore_params(path, restore_type=np.ndarray, dtype=dtype and jnp.dtype(dtype))


def restore_limited(path: str, limits: Data) -> Params:
    with mock.patch.multiple(untrusted, **{_LIMITS[name]: limit for name, limit in limits.items()}):
        return restore(path, None)


def load(model: Data, source: Data, seed: int) -> Data:
    loader = _loader(**source)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        params, report = loader.load(Pi0Config.from_json(model), seed=seed)
    return {
        "params": params,
        "report": {entry.path: entry.status.value for entry in report.entries},
        "nonfinite": {entry.path: entry.nonfinite for entry in report.entries if entry.nonfinite},
        "warnings": [str(warning.message) for warning in caught],
        "notes": list(report.notes),
    }


def load_for_inference(model: Data, path: str) -> Params:
    return weight_loaders.CheckpointWeightLoader(path).load_for_inference(Pi0Config.from_json(model))[0]


def save(model: Data, params: Params, path: str) -> None:
    save_params(params, path, config=Pi0Config.from_json(model))


def loss(model: Data, params: Params, batch: Params, noise: Any, time: Any, seed: int) -> np.ndarray:
    # Drawing outside of the forward pass gives the same numbers, and one program for both kinds of call.
    if model["family"] == "pi0_fast":
        return np.asarray(_reference_fast.loss(Pi0Config.from_json(model), params, _split(batch)[0]))
    if noise is None or time is None:
        # Only then: the draws take six times as long to compile as the loss.
        drawn_noise, drawn_time = _draw(jax.random.key(seed), batch["actions"].shape)
        noise, time = drawn_noise if noise is None else noise, drawn_time if time is None else time
    return np.asarray(_reference_flow.compiled_loss(Pi0Config.from_json(model))(params, *_split(batch), noise, time))


def sample_actions(model: Data, params: Params, batch: Params, noise: np.ndarray, num_steps: int) -> np.ndarray:
    sample = _reference_flow.compiled_sample(Pi0Config.from_json(model), num_steps)
    return np.asarray(sample(params, _split(batch)[0], noise))


def act(model: Data, path: str, observation: Params, noise: np.ndarray) -> Params:
    params = load(model, {"kind": "lerobot", "path": path}, seed=0)["params"]
    normalization = _reference_policies.Normalization(path, model["family"])
    seen = {name: normalization.forward(name, observation[name]) for name in ("state", "actions")}
    batch = observation | {name: x.astype(np.float32) for name, x in seen.items()}
    actions = sample_actions(model, params, batch, noise, num_steps=10)
    return seen | {"robot_actions": normalization.back("actions", actions)}


def write_policy(model: Data, path: str, out: str, options: Data) -> None:
    _reference_policies.write(model, path, out, options)


def embed_prefix(model: Data, params: Params, batch: Params) -> np.ndarray:
    embed = _reference_flow.compiled_prefix(Pi0Config.from_json(model))
    return np.asarray(embed(params, _split(batch)[0]))


def prompt_logits(model: Data, params: Params, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.asarray(_reference_flow.compiled_logits(Pi0Config.from_json(model))(params, tokens, mask))


def token_logits(model: Data, params: Params, batch: Params) -> np.ndarray:
    return np.asarray(_reference_fast.logits(Pi0Config.from_json(model), params, _split(batch)[0]))


def sample_tokens(model: Data, params: Params, batch: Params, num_steps: int) -> np.ndarray:
    return np.asarray(_reference_fast.sample(Pi0Config.from_json(model), params, _split(batch)[0], num_steps))


def trainable(model: Data) -> list[str]:
    return training.trainable_paths(Pi0Config.from_json(model))


def needs(model: Data, options: Data) -> Data:
    return planning.needs(model, options)


def begin(model: Data, source: Data, options: Data) -> Data:
    config = dataclasses.replace(_train_config(model, options), weight_loader=_loader(**source))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state, _ = training.init_train_state(config, seed=options["seed"], sharding=_placement(options["shard_above"]))
    return {"device_bytes": _device_bytes(state)}


def train(model: Data, params: Params, batches: list[Params], options: Data, folder: str | None = None) -> Data:
    config, places = _train_config(model, options), _placement(options["shard_above"])
    state, infos = _steps(config, training.make_train_state(config, params, sharding=places), batches, options)
    if folder:
        _save(config, state, folder)
    return _result(state, infos)


def resume(model: Data, batches: list[Params], options: Data, folder: str, step: int | None = None) -> Data:
    config, places = _train_config(model, options), _placement(options["shard_above"])
    with runs.open_run(folder, max_to_keep=None) as run:
        state = runs.resume_train_state(run, config, step=step, sharding=places)
    state, infos = _steps(config, state, batches[int(state.step) :], options)
    if infos:
        _save(config, state, folder)
    return _result(state, infos)


def download(url: str, cache: str) -> str:
    return str(fetch(url, cache=cache))


def fold(model: Data, params: Params) -> Params:
    return _fold(model, params).params


def fold_losses(model: Data, params: Params) -> dict[str, float]:
    return _fold(model, params).lost


def unfold(model: Data, params: Params) -> Params:
    folded = _fold(model, params)
    return lora_fold.unfold(folded.params, folded.replaced, Pi0Config.from_json(model))


def extract(model: Data, params: Params) -> Data:
    base, lora = lora_params.extract(params)
    return {"base": base, "lora": lora}


def merge(model: Data, base: Params, lora: Params) -> Params:
    return lora_params.merge_parameters(base, lora)


def restore_sharded(path: str, shard_above: int) -> Data:
    stored = read_metadata(find_params(path))
    place = _placement(shard_above)
    places = {name: place(leaf) for name, leaf in stored.leaves.items()}
    restored = checkpoints.restore_params(path, sharding=places.__getitem__)
    return {"params": _gather(restored), "device_bytes": _device_bytes(restored)}


def join(coordinator: str, num_processes: int, process_id: int) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, num_processes, process_id)


def convert(model: Data, path: str, layout: str, out: str) -> Data:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        part = layout in ("hugging_face", "paligemma_npz")
        convert_checkpoint(path, out, config=Pi0Config.from_json(model), layout=layout, drop=part)
    return {"warnings": [str(warning.message) for warning in caught]}


def fold_checkpoint(model: Data, path: str, out: str, dtype: str | None) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = lora_checkpoints.fold_checkpoint(path, out, config=Pi0Config.from_json(model), dtype=dtype)
    return made.lost


def _fold(model: Data, params: Params) -> lora_fold.Folded:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lora_fold.fold(params, Pi0Config.from_json(model))


BENCH_STAGES = _reference_benchmarks.STAGES
bench_arrays = _reference_benchmarks.arrays
bench_restore = _reference_benchmarks.restore
bench_inference = _reference_benchmarks.inference
bench_lora_state = _reference_benchmarks.lora_state
bench_paligemma_state = _reference_benchmarks.paligemma_state
bench_hugging_face_state = _reference_benchmarks.hugging_face_state
bench_gemma_state = _reference_benchmarks.gemma_state
bench_initialize = _reference_benchmarks.initialize
bench_merge = _reference_benchmarks.merge
bench_fold = _reference_benchmarks.fold
bench_extract = _reference_benchmarks.extract
bench_train_step = _reference_benchmarks.train_step
bench_train_step_kept = _reference_benchmarks.train_step_kept
bench_sample_actions = _reference_benchmarks.sample_actions
bench_sample_tokens = _reference_benchmarks.sample_tokens


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _loader(kind: str, path: str = "", **options: Any) -> weight_loaders.WeightLoader:
    if kind in ("openpi", "saved"):
        return weight_loaders.CheckpointWeightLoader(path)
    if kind == "paligemma_npz":
        return weight_loaders.PaliGemmaWeightLoader(path, **options)
    if kind == "hugging_face":
        return weight_loaders.HuggingFaceWeightLoader(path, **options)
    if kind == "gemma_flax":
        return weight_loaders.GemmaWeightLoader(path, **options)
    # lerobot's names have one prefix more, which a load takes off.
    if kind in ("openpi_pytorch", "lerobot"):
        return weight_loaders.OpenpiPyTorchWeightLoader(path, merge=options.get("adapter"))
    if kind == "peft":
        return weight_loaders.PeftWeightLoader(path, **options)
    return weight_loaders.NoOpWeightLoader()


def _split(batch: Params) -> tuple[Observation, np.ndarray]:
    cameras = FAST_CAMERAS if "token_ar_mask" in batch else CAMERAS
    observation = Observation(
        images={camera: batch[f"image/{camera}"] for camera in cameras},
        image_masks={camera: batch[f"image_mask/{camera}"] for camera in cameras},
        state=batch["state"],
        tokenized_prompt=batch["tokenized_prompt"],
        tokenized_prompt_mask=batch["tokenized_prompt_mask"],
        token_ar_mask=batch.get("token_ar_mask"),
        token_loss_mask=batch.get("token_loss_mask"),
    )
    return observation, batch["actions"]


# Optimized, unlike the rest: otherwise the draws differ from openpi's by an ulp.
_draw = jax.jit(draw_noise_and_time, static_argnums=1)


@functools.lru_cache
def _compiled_step(config: TrainConfig, shard_above: int | None) -> Any:
    return training.make_train_step(config, sharding=_placement(shard_above), compiler_options=quickest())


@functools.lru_cache
def _placement(shard_above: int | None) -> Any:
    return None if shard_above is None else sharding.fsdp(_mesh(), min_bytes=shard_above)


def _mesh() -> jax.sharding.Mesh:
    return jax.make_mesh((jax.device_count(),), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))


def _device_bytes(tree: Any) -> list[int]:
    """Return the bytes of a tree that each device of all processes holds."""
    held = dict.fromkeys(jax.devices(), 0)
    for array in jax.tree.leaves(tree):
        part = array.sharding.shard_shape(array.shape)
        for device in array.sharding.device_set:
            held[device] += math.prod(part) * array.dtype.itemsize
    return list(held.values())


def _gather(tree: Any) -> Params:
    """Return host arrays, with the parts that other processes hold."""
    whole = {
        path: array if array.is_fully_addressable else process_allgather(array, tiled=True)
        for path, array in tree.items()
    }
    return to_numpy(whole)


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
    step = _compiled_step(config, options["shard_above"])
    for n, batch in enumerate(batches, start=done):
        noise, time = (None if draw is None else draw[n] for draw in draws)
        inputs = _split(batch) if options["shard_above"] is None else sharding.split_batch(_split(batch), _mesh())
        programs = step._cache_size()
        state, info = step(state, key, inputs, noise, time)
        infos.append(info | {"compiled": step._cache_size() - programs})
    return state, infos


def _save(config: TrainConfig, state: training.TrainState, folder: str) -> None:
    with runs.open_run(folder, max_to_keep=None) as run:
        runs.save_train_state(run, config, state)


def _result(state: training.TrainState, infos: list[Data]) -> Data:
    return {
        "params": _gather(state.params),
        "losses": [float(info["loss"]) for info in infos],
        "grad_norms": [float(info["grad_norm"]) for info in infos],
        "averaged": None if state.ema is None else _gather(state.inference_params),
        "compiled": [info["compiled"] for info in infos],
        "optimizer_bytes": sum(x.nbytes for x in jax.tree.leaves(state.opt_state)),
        "device_bytes": _device_bytes(state),
    }
