"""What XLA assigns to a program of the real size: it is traced and compiled from shapes, and never run.

The CPU's compiler stands in for an accelerator's. Two things are done so that it may:

* It has no products in bfloat16: it would keep a float32 copy of all frozen weights, 8 GB of a pi0. float16 is as wide,
  and has products, so bfloat16 is replaced by it. Nothing is run, so values do not matter.
* It hands products to a library whose buffers its analysis does not see (``../docs/plan.md``); that is switched off.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pi0_compat.model import specs
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.pi0 import CAMERAS, Observation
from pi0_compat.model.pi0_fast import FAST_CAMERAS
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.planning.question import Question
from pi0_compat.storage.placement import Placement, first_device, fsdp, placed
from pi0_compat.training.configs import TrainConfig, get_config
from pi0_compat.training.step import abstract_train_state, make_train_step

_STAND_IN = {"bfloat16": "float16"}
# Code that never runs need not be good.
_OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_cpu_experimental_ynn_fusion_type": ""}
_FEWER_OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 0}
# openpi's ranks.
_RANKS = {"paligemma": 16, "action_expert": 32}


class Assigned(NamedTuple):
    """XLA's assignment of memory to a program, in bytes on one device.

    Attributes:
      arguments: the state, the batch, the key.
      outputs: what it returns.
      aliased: outputs that take the place of donated arguments.
      temporary: gradients, activations, and all else that is gone when it ends.
    """

    arguments: int
    outputs: int
    aliased: int
    temporary: int

    @property
    def peak(self) -> int:
        """The most that the program holds."""
        return self.arguments + self.outputs - self.aliased + self.temporary


def train_config(question: Question) -> TrainConfig:
    """Return the training config that a question is about."""
    if isinstance(question.config, Pi0Spec):
        model = Pi0Config.of(question.config)
        config = TrainConfig(model=model, ema_decay=None if model.has_lora else TrainConfig.ema_decay)
    else:
        config = get_config(question.config)
    config = _adapted(config, question.lora)
    model = dataclasses.replace(config.model, remat=question.remat or config.model.remat)
    return dataclasses.replace(
        config,
        model=model,
        frozen_dtype=question.frozen_dtype or config.frozen_dtype,
        freeze_vision=question.freeze_vision,
    )


def placement(devices: int) -> Placement:
    """Return where arrays go: to the first device, or spread over all ``devices``."""
    return first_device() if devices == 1 else fsdp(_mesh(devices))


def assigned(question: Question) -> Assigned:
    """Return what XLA assigns to the program of a question."""
    config = _with_stand_in(train_config(question))
    places = placement(question.devices)
    batch = _placed_batch(config.model, question)
    key = placed(jax.eval_shape(lambda: jax.random.key(0)), places if question.devices == 1 else _replicated(question))
    if question.purpose == "training":
        sharding = None if question.devices == 1 else places
        jitted: Any = make_train_step(config, sharding=sharding)
        return _compiled(jitted, abstract_train_state(config, places), key, batch)
    params = placed(serving_params(config.model), places)
    return _compiled(jax.jit(functools.partial(_serve, config.model)), params, key, batch[0])


def serving_params(model: Pi0Config) -> dict[str, Any]:
    """Return the shapes of a model in service: all parameters in the dtype that it computes in, as openpi has them."""
    return {path: jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(model.dtype)) for path, leaf in model.param_spec().items()}


def observation(model: Pi0Spec, batch: int) -> Observation:
    """Return the shapes of a batch of observations."""
    struct, text = jax.ShapeDtypeStruct, (batch, model.max_token_len)
    fast = model.family == "pi0_fast"
    cameras = FAST_CAMERAS if fast else CAMERAS
    image = (batch, model.image_size, model.image_size, 3)
    return Observation(
        images={camera: struct(image, jnp.float32) for camera in cameras},
        image_masks={camera: struct((batch,), jnp.bool_) for camera in cameras},
        state=struct((batch, model.action_dim), jnp.float32),
        tokenized_prompt=struct(text, jnp.int32),
        tokenized_prompt_mask=struct(text, jnp.bool_),
        token_ar_mask=struct(text, jnp.int32) if fast else None,
        token_loss_mask=struct(text, jnp.bool_) if fast else None,
    )


def _serve(model: Pi0Config, params: Any, key: jax.Array, seen: Observation) -> jax.Array:
    loaded: Any = model.merge(params)
    return loaded.sample_tokens(key, seen) if model.family == "pi0_fast" else loaded.sample_actions(key, seen)


def _compiled(jitted: Any, *arguments: Any) -> Assigned:
    # Lowered as for a TPU: jax refuses attention in float16 on a CPU, which compiles it all the same.
    lowered = jitted.trace(*arguments).lower(lowering_platforms=("tpu",))
    try:
        compiled = lowered.compile(compiler_options=_OPTIONS)
    except Exception:  # noqa: BLE001 - what an unknown option raises changed from release to release
        compiled = lowered.compile(compiler_options=_FEWER_OPTIONS)
    memory = compiled.memory_analysis()
    return Assigned(
        *(getattr(memory, f"{kind}_size_in_bytes") for kind in ("argument", "output", "alias", "temp")),
    )


def _placed_batch(model: Pi0Config, question: Question) -> Any:
    actions = jax.ShapeDtypeStruct((question.batch, model.action_horizon, model.action_dim), jnp.float32)
    batch = (observation(model, question.batch), actions)
    if question.devices == 1:
        return placed(batch, first_device())
    names = jax.sharding.PartitionSpec(_mesh(question.devices).axis_names)
    whole = jax.sharding.PartitionSpec()
    spec = names if question.batch % question.devices == 0 else whole
    return placed(batch, jax.sharding.NamedSharding(_mesh(question.devices), spec))


def _replicated(question: Question) -> Placement:
    return jax.sharding.NamedSharding(_mesh(question.devices), jax.sharding.PartitionSpec())


def _mesh(devices: int) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("devices",))


def _adapted(config: TrainConfig, lora: bool | None) -> TrainConfig:
    """Return the config with adapters, which openpi trains without an average, or without any."""
    model = config.model
    if lora is None or lora == model.has_lora:
        return config
    if not lora:
        return dataclasses.replace(config, model=model.without_lora())
    named = zip(specs.EXPERTS, model.experts, strict=False)
    adapted: dict[str, Any] = {
        name: dataclasses.replace(expert, lora=specs.lora(_RANKS[name])) for name, expert in named
    }
    return dataclasses.replace(config, model=dataclasses.replace(model, **adapted), ema_decay=None)


def _with_stand_in(config: TrainConfig) -> TrainConfig:
    model = dataclasses.replace(config.model, dtype=_STAND_IN.get(config.model.dtype, config.model.dtype))
    return dataclasses.replace(
        config, model=model, frozen_dtype=_STAND_IN.get(config.frozen_dtype, config.frozen_dtype)
    )
