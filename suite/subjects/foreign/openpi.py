"""openpi, in the interpreter of its own checkout.

Params pass only through openpi's own code: its weight loaders, ``init_train_state`` and ``train_step`` of its
``scripts/train.py``, ``restore_params``, ``config.load``, its checkpoint manager, and its converter to PyTorch.
"""

import functools
import json
import os
import shutil
import uuid
import warnings
from pathlib import Path
from typing import Any

# Compiling takes nearly all the time of the contracts' tiny models. Benchmarks set a level of their own. jax reads this
# when it is imported.
if "--xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()

# isort: split
from . import _openpi_benchmarks, _openpi_checkout, _openpi_fast, _openpi_torch, _openpi_training
from ._openpi_checkout import abstract, at_size, config_of, filled, flat, key_of
from ._openpi_inputs import drawn, observation_of
from ._openpi_training import loader_of

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from openpi.models import model as openpi_model
from openpi.training import config as openpi_config
from openpi.training import weight_loaders

NAME = "openpi"
TRAITS = (
    "pi0",
    "pi05",
    "pi0_fast",
    "lora",
    "head_adapters",
    "openpi",
    "paligemma_npz",
    "openpi_keys",
    "moving_average",
    "float32",
    "counts_compilations",
    "counts_bytes",
    "sharding",
)

Params = dict[str, np.ndarray]
Data = dict[str, Any]


describe = _openpi_checkout.describe


def param_spec(model: Data) -> dict[str, tuple[tuple[int, ...], str]]:
    leaves = flat(abstract(model)[1], leaf=lambda leaf: (tuple(leaf.shape), leaf.dtype.name))
    return {path: leaves[path] for path in sorted(leaves)}


def trainable(model: Data) -> list[str]:
    config = config_of(model)
    filters = openpi_config.TrainConfig(name=NAME, model=config, freeze_filter=config.get_freeze_filter())
    return list(flat(abstract(model)[1].filter(filters.trainable_filter), leaf=lambda leaf: leaf.shape))


def init(model: Data, seed: int) -> Params:
    return _openpi_training.load(model, weight_loaders.NoOpWeightLoader(), seed)


def restore(path: str, dtype: str | None) -> Params:
    return flat(openpi_model.restore_params(path, restore_type=np.ndarray, dtype=dtype and jnp.dtype(dtype)))


def load(model: Data, source: Data, seed: int) -> Data:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with loader_of(**source) as loader:
            params = _openpi_training.load(model, loader, seed)
    texts = [str(warning.message) for warning in caught]
    return {"params": params, "report": None, "nonfinite": None, "warnings": texts, "notes": None}


def load_for_inference(model: Data, path: str) -> Params:
    # As its notebooks do. create_trained_policy loads everything in bfloat16, whatever the model computes in.
    with at_size(model):
        return flat(nnx.state(config_of(model).load(openpi_model.restore_params(path))))


def save(model: Data, params: Params, path: str) -> None:
    # openpi saves runs, and refuses a folder that exists. Otherwise a run of one step is saved beside, then moved.
    run = Path(path if Path(path).exists() else f"{path}.run-{uuid.uuid4().hex}")
    _openpi_training.save(model, params, str(run))
    (run / "0" / "params").rename(path)
    shutil.rmtree(run)


def loss(model: Data, params: Params, batch: Params, noise: Any, time: Any, seed: int) -> np.ndarray:
    _, state = filled(model, params)
    with at_size(model):
        return np.asarray(
            _compiled_loss(key_of(model))(state, jax.random.key(seed), *observation_of(batch), noise, time)
        )


def sample_actions(model: Data, params: Params, batch: Params, noise: np.ndarray, num_steps: int) -> np.ndarray:
    _, state = filled(model, params)
    with at_size(model):
        return np.asarray(_compiled_sample(key_of(model), num_steps)(state, observation_of(batch)[0], noise))


def embed_prefix(model: Data, params: Params, batch: Params) -> np.ndarray:
    if model["family"] == "pi0_fast":
        return _openpi_fast.embed_prefix(model, params, batch)
    _, state = filled(model, params)
    with at_size(model):
        return np.asarray(_compiled_prefix(key_of(model))(state, observation_of(batch)[0]))


token_logits = _openpi_fast.token_logits
sample_tokens = _openpi_fast.sample_tokens
begin = _openpi_training.begin
train = _openpi_training.train
resume = _openpi_training.resume
convert = _openpi_torch.convert

BENCH_STAGES = _openpi_benchmarks.STAGES
bench_arrays = _openpi_benchmarks.arrays
bench_restore = _openpi_benchmarks.restore
bench_inference = _openpi_benchmarks.inference
bench_lora_state = _openpi_benchmarks.lora_state
bench_paligemma_state = _openpi_benchmarks.paligemma_state
bench_train_step = _openpi_benchmarks.train_step
bench_sample_actions = _openpi_benchmarks.sample_actions
bench_sample_tokens = _openpi_benchmarks.sample_tokens


@functools.lru_cache
def _compiled_loss(key: str) -> Any:
    graphdef, _ = abstract(json.loads(key))

    def loss_of(state: nnx.State, rng: Any, observation: Any, actions: Any, noise: Any, time: Any) -> Any:
        with drawn(noise, time):
            return nnx.merge(graphdef, state).compute_loss(rng, observation, actions, train=False)

    return jax.jit(loss_of)


@functools.lru_cache
def _compiled_sample(key: str, num_steps: int) -> Any:
    graphdef, _ = abstract(json.loads(key))
    rng = jax.random.key(0)
    return jax.jit(
        lambda state, observation, noise: nnx.merge(graphdef, state).sample_actions(
            rng, observation, num_steps=num_steps, noise=noise
        )
    )


@functools.lru_cache
def _compiled_prefix(key: str) -> Any:
    graphdef, _ = abstract(json.loads(key))
    return jax.jit(
        lambda state, observation: nnx.merge(graphdef, state).embed_prefix(
            openpi_model.preprocess_observation(None, observation, train=False)
        )[0]
    )
