"""What the benchmarks measure of openpi, at the sizes of a spec; the harness offers these functions as ``bench_*``.

What is timed is openpi's own: ``restore_params``, ``config.load``, the weight loaders, and ``init_train_state`` and
``train_step`` of its ``scripts/train.py``.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from ._openpi_checkout import at_size, config_of, flat, script
from ._openpi_inputs import images_as_they_are, observation_of
from ._openpi_training import loader_of

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from openpi.models import model as openpi_model
from openpi.shared import array_typing
from openpi.training import config as openpi_config
from openpi.training import sharding, weight_loaders
from openpi.training.utils import TrainState

Data = dict[str, Any]
Call = Callable[[], Any]
Program = dict[str, Any]

STAGES = {
    "read": ("openpi.models.model:restore_params", "numpy:load"),
    "merge": ("openpi.training.weight_loaders:_merge_params",),
}
# openpi keeps the sizes and files of a job for the life of the process.
_of_the_job = contextlib.ExitStack()


def restore(job: Data) -> Call:
    """Restore a checkpoint's parameters as jax arrays of a dtype."""
    return lambda: openpi_model.restore_params(job["path"], dtype=jnp.dtype(job["dtype"]))


def inference(job: Data) -> Call:
    """Load a model to serve, as ``create_trained_policy`` does."""
    _of_the_job.enter_context(at_size(job["model"]))
    config = config_of(job["model"])
    return lambda: nnx.state(config.load(openpi_model.restore_params(job["path"], dtype=jnp.dtype(job["dtype"]))))


def lora_state(job: Data) -> Call:
    """Load a base checkpoint as the first state of a LoRA fine-tuning."""
    return _first_state(job, weight_loaders.CheckpointWeightLoader(job["path"]))


def paligemma_state(job: Data) -> Call:
    """Load Google's PaliGemma as the first state of a LoRA fine-tuning; the action expert is fresh."""
    return _first_state(job, _of_the_job.enter_context(loader_of("paligemma_npz", job["path"])))


def train_step(job: Data) -> Program:
    """Run fine-tuning steps on one batch; images are not augmented, so that the loss can be compared."""
    config, mesh = _config(job, weight_loaders.CheckpointWeightLoader(job["path"])), sharding.make_mesh(_fsdp(job))
    train = _script()
    state, places = train.init_train_state(config, jax.random.key(job["seed"]), mesh, resume=False)
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(sharding.DATA_AXIS))
    inputs, key = jax.device_put(observation_of(job["inputs"]), spread), jax.random.key(job["seed"])
    _of_the_job.enter_context(images_as_they_are())
    _of_the_job.enter_context(sharding.set_mesh(mesh))
    _of_the_job.enter_context(_without_type_checks())
    return {
        "jitted": jax.jit(
            lambda key, state, inputs: train.train_step(config, key, state, inputs),
            in_shardings=(everywhere, places, spread),
            out_shardings=(places, everywhere),
            donate_argnums=(1,),
        ),
        "state": state,
        "arguments": lambda state: (key, state, inputs),
        "after": lambda outputs: (outputs[0], outputs[1]["loss"]),
    }


def sample_actions(job: Data) -> Program:
    """Sample one batch of actions."""
    graphdef, params = nnx.split(_model(job))
    observation, _ = observation_of(job["inputs"])
    _of_the_job.enter_context(_without_type_checks())
    noise = jnp.asarray(job["inputs"]["noise"])

    def sample(params: nnx.State, observation: Any, noise: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, params)
        return model.sample_actions(jax.random.key(0), observation, num_steps=job["num_steps"], noise=noise)

    return {
        "jitted": jax.jit(sample),
        "state": params,
        "arguments": lambda params: (params, observation, noise),
        "after": lambda actions: (params, np.abs(np.asarray(actions)).mean()),
    }


def sample_tokens(job: Data) -> Program:
    """Write the likeliest tokens after one prompt."""
    graphdef, params = nnx.split(_model(job))
    observation, _ = observation_of(job["inputs"])
    _of_the_job.enter_context(_without_type_checks())

    def sample(params: nnx.State, observation: Any) -> jax.Array:
        model = nnx.merge(graphdef, params)
        return model.sample_actions(jax.random.key(0), observation, max_decoding_steps=job["num_steps"])

    return {
        "jitted": jax.jit(sample),
        "state": params,
        "arguments": lambda params: (params, observation),
        "after": lambda tokens: (params, np.asarray(tokens)),
    }


def arrays(result: Any) -> Data:
    """Return the params in the result of a call."""
    result = result.params if isinstance(result, TrainState) else result
    return flat(result, leaf=lambda array: array)


@functools.cache
def _script() -> Any:
    """Return openpi's training script, unpatched: the contracts' copy traces each config only once."""
    return script("scripts/train.py")


def _without_type_checks() -> contextlib.AbstractContextManager[Any]:
    """Turn openpi's type checks off: tracing apart from compiling puts placeholders into its checked dataclasses."""
    return array_typing.disable_typechecking()


def _model(job: Data) -> Any:
    _of_the_job.enter_context(at_size(job["model"]))
    params = openpi_model.restore_params(job["path"], dtype=jnp.dtype(job["dtype"]))
    return config_of(job["model"]).load(params)


def _fsdp(job: Data) -> int:
    """Return the number of devices that share a state; others hold a copy each."""
    devices: int = job["devices"]
    return devices if job["spread"] else 1


def _config(job: Data, loader: weight_loaders.WeightLoader) -> openpi_config.TrainConfig:
    _of_the_job.enter_context(at_size(job["model"]))
    config = config_of(job["model"])
    return openpi_config.TrainConfig(
        name="benchmark",
        model=config,
        weight_loader=loader,
        ema_decay=None,
        freeze_filter=config.get_freeze_filter(),
        fsdp_devices=_fsdp(job),
    )


def _first_state(job: Data, loader: weight_loaders.WeightLoader) -> Call:
    config, mesh, init = _config(job, loader), sharding.make_mesh(1), _script().init_train_state
    return lambda: init(config, jax.random.key(job["seed"]), mesh, resume=False)[0]
