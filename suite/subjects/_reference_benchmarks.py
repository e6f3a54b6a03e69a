"""What the benchmarks measure of the reference; the harness, ``reference``, offers these functions as ``bench_*``."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pi0_compat.layouts.orbax.restore import restore_params
from pi0_compat.loading.loaders import (
    CheckpointWeightLoader,
    GemmaWeightLoader,
    HuggingFaceWeightLoader,
    PaliGemmaWeightLoader,
    WeightLoader,
)
from pi0_compat.lora import fold as lora_fold
from pi0_compat.lora import params as lora_params
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.pi0 import CAMERAS, Observation
from pi0_compat.model.pi0_fast import FAST_CAMERAS, Pi0Fast
from pi0_compat.params import as_flat
from pi0_compat.storage import placement as sharding
from pi0_compat.training import step as train
from pi0_compat.training.configs import TrainConfig

Data = dict[str, Any]
Call = Callable[[], Any]
Program = dict[str, Any]

# The functions of each stage of a load. Reading includes decoding, and casting into place.
STAGES = {
    "read": ("pi0_compat.layouts.orbax.read:read_all", "pi0_compat.loading.match:_read_all"),
    "place": ("pi0_compat.training.step:_place",),
    "merge": ("pi0_compat.loading.loaders:complete", "pi0_compat.loading.match:complete"),
}


def restore(job: Data) -> Call:
    """Restore a checkpoint's parameters as jax arrays of a dtype."""
    dtype = jnp.dtype(job["dtype"])
    return lambda: restore_params(job["path"], dtype=dtype, sharding=sharding.first_device())


def inference(job: Data) -> Call:
    """Load a checkpoint into a model to serve, on the device, in the job's dtype."""
    dtype, config = jnp.dtype(job["dtype"]), _model(job)
    return lambda: config.load(restore_params(job["path"], dtype=dtype, sharding=sharding.first_device()))


def lora_state(job: Data) -> Call:
    """Load a base checkpoint as the first state of a LoRA fine-tuning."""
    return _first_state(job, CheckpointWeightLoader(job["path"]))


def paligemma_state(job: Data) -> Call:
    """Load Google's PaliGemma as the first state of a LoRA fine-tuning; the action expert is fresh."""
    return _first_state(job, PaliGemmaWeightLoader(job["path"]))


def hugging_face_state(job: Data) -> Call:
    """Load Hugging Face's PaliGemma as the first state of a LoRA fine-tuning; the action expert is fresh."""
    return _first_state(job, HuggingFaceWeightLoader(job["path"]))


def gemma_state(job: Data) -> Call:
    """Load Google's Gemma for flax as the first state of a LoRA fine-tuning; vision encoder and expert are fresh."""
    return _first_state(job, GemmaWeightLoader(job["path"]))


def arrays(result: Any) -> dict[str, Any]:
    """Return the params in the result of a call."""
    if isinstance(result, train.TrainState):
        return dict(result.params)
    if isinstance(result, dict):
        return result
    return as_flat(nnx.to_pure_dict(nnx.state(result)))


def initialize(job: Data) -> Call:
    """Initialize adapters for a base model."""
    base, config = restore_params(job["path"], restore_type=np.ndarray), _model(job)
    return lambda: lora_params.initialize_lora_parameters(base, config, 0)


def merge(job: Data) -> Call:
    """Merge base and adapters into one tree."""
    base, lora = lora_params.extract(restore_params(job["path"], restore_type=np.ndarray))
    return lambda: lora_params.merge_parameters(base, lora)


def fold(job: Data) -> Call:
    """Add every adapter to its weight."""
    params, config = restore_params(job["path"], restore_type=np.ndarray), _model(job)
    return lambda: lora_fold.fold(params, config).params


def extract(job: Data) -> Call:
    """Extract the adapters of a tree."""
    params = restore_params(job["path"], restore_type=np.ndarray)
    return lambda: lora_params.extract(params)[1]


def train_step(job: Data) -> Program:
    """Run fine-tuning steps on one batch, recomputing activations in the backward pass."""
    return _training(job, _train_config(job, CheckpointWeightLoader(job["path"])))


def train_step_kept(job: Data) -> Program:
    """Run the same steps, keeping the results of matrix products: less to compute, more to hold."""
    config = _train_config(job, CheckpointWeightLoader(job["path"]))
    return _training(job, dataclasses.replace(config, model=dataclasses.replace(config.model, remat="cheap")))


def _training(job: Data, config: TrainConfig) -> Program:
    placement, split = _placement(job)
    state, _ = train.init_train_state(config, sharding=placement)
    inputs, key = split(_observation(job)), jax.random.key(job["seed"])
    return {
        "jitted": train.make_train_step(config, sharding=placement),
        "state": state,
        "arguments": lambda state: (state, key, inputs),
        "after": lambda outputs: (outputs[0], outputs[1]["loss"]),
    }


def sample_actions(job: Data) -> Program:
    """Sample one batch of actions."""
    config = _model(job)
    params = restore_params(job["path"], dtype=jnp.dtype(job["dtype"]), sharding=sharding.first_device())
    noise = jnp.asarray(job["inputs"]["noise"])

    def sample(params: Data, observation: Observation, noise: jax.Array) -> jax.Array:
        model = config.merge(params)
        return model.sample_actions(jax.random.key(0), observation, num_steps=job["num_steps"], noise=noise)

    observation, _ = jax.tree.map(jnp.asarray, _observation(job))
    return {
        "jitted": jax.jit(sample),
        "state": params,
        "arguments": lambda params: (params, observation, noise),
        "after": lambda actions: (params, np.abs(np.asarray(actions)).mean()),
    }


def sample_tokens(job: Data) -> Program:
    """Write the likeliest tokens after one prompt."""
    config = _model(job)
    params = restore_params(job["path"], dtype=jnp.dtype(job["dtype"]), sharding=sharding.first_device())

    def sample(params: Data, observation: Observation) -> jax.Array:
        model = config.merge(params)
        assert isinstance(model, Pi0Fast), config.family
        return model.sample_tokens(jax.random.key(0), observation, max_decoding_steps=job["num_steps"])

    observation, _ = jax.tree.map(jnp.asarray, _observation(job))
    return {
        "jitted": jax.jit(sample),
        "state": params,
        "arguments": lambda params: (params, observation),
        "after": lambda tokens: (params, np.asarray(tokens)),
    }


def _model(job: Data) -> Pi0Config:
    return Pi0Config.from_json(job["model"])


def _train_config(job: Data, loader: WeightLoader) -> TrainConfig:
    return TrainConfig(model=_model(job), weight_loader=loader, ema_decay=None)


def _first_state(job: Data, loader: WeightLoader) -> Call:
    config = _train_config(job, loader)
    return lambda: train.init_train_state(config)[0]


def _placement(job: Data) -> tuple[Any, Callable[[Any], Any]]:
    """Return where a state's arrays go and a function that puts a batch there: one device, data parallel, or FSDP."""
    if job["devices"] == 1:
        return None, lambda inputs: jax.tree.map(jnp.asarray, inputs)
    mesh = jax.sharding.Mesh(jax.devices()[: job["devices"]], ("data",))
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    placement = sharding.fsdp(mesh) if job["spread"] else replicated
    return placement, functools.partial(sharding.split_batch, mesh=mesh)


def _observation(job: Data) -> tuple[Observation, np.ndarray]:
    inputs = job["inputs"]
    fast = job["model"]["family"] == "pi0_fast"
    cameras = FAST_CAMERAS if fast else CAMERAS
    images, masks = ({camera: inputs[f"{kind}/{camera}"] for camera in cameras} for kind in ("image", "image_mask"))
    names = ("state", "tokenized_prompt", "tokenized_prompt_mask")
    rest = {name: inputs[name] for name in (*names, *(("token_ar_mask", "token_loss_mask") if fast else ()))}
    return Observation(images=images, image_masks=masks, **rest), inputs["actions"]
