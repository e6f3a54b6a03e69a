"""Fine-tuning: what is trained, the train state, one step, and the moving average.

The optimizer sees trainable parameters only, and the gradient is taken with respect to them only, so frozen ones cost
neither moments nor gradients. They are kept in ``frozen_dtype`` (bfloat16, as openpi ``scripts/train.py:106``) and
never written.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pi0_compat.loading.report import LoadReport
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.pi0 import Observation
from pi0_compat.model.pi0_fast import Pi0Fast
from pi0_compat.params import Params, as_flat
from pi0_compat.storage.placement import Placement, first_device, placed, put, shardings
from pi0_compat.training.compile_options import quickest
from pi0_compat.training.configs import TrainConfig

# Observations, and their actions [batch, action_horizon, action_dim], which pi0-FAST has as tokens and does not read.
Batch: TypeAlias = tuple[Observation, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a run carries from step to step.

    Attributes:
      step: int32 scalar, the number of steps taken.
      trainable: path -> float32 parameter that the optimizer changes.
      frozen: path -> parameter that stays as it was loaded, in the config's ``frozen_dtype``.
      opt_state: optax's state of the trainable parameters.
      ema: moving average of the trainable parameters, float32; None where the config has none.
    """

    step: jax.Array
    trainable: Params
    frozen: Params
    opt_state: optax.OptState
    ema: Params | None

    @property
    def params(self) -> Params:
        """Return all parameters, as they are being trained."""
        return dict(sorted((self.frozen | self.trainable).items()))

    @property
    def inference_params(self) -> Params:
        """Return what to serve and save: all parameters, averaged ones in place of trained ones where there is one."""
        return self.params if self.ema is None else dict(sorted((self.frozen | self.ema).items()))


# The next state, and the metrics of the step.
Stepped: TypeAlias = tuple[TrainState, dict[str, jax.Array]]


def trainable_paths(model: Pi0Config) -> list[str]:
    """Return the paths that fine-tuning changes, sorted: all, or with LoRA all but the adapted experts' own weights."""
    return [path for path in model.param_spec() if not model.is_frozen(path)]


def init_train_state(
    config: TrainConfig, *, seed: int | None = None, sharding: Placement | None = None
) -> tuple[TrainState, LoadReport]:
    """Return the state at step 0 with the weights that the config's loader reads, and the loader's report.

    Args:
      config: the run; its ``weight_loader`` reads the weights.
      seed: draws the parameters that the loader does not have; by default the config's.
      sharding: where arrays go, see ``pi0_compat.storage.placement.fsdp``; by default the first device. Each array
        leaves the host as soon as it is on its devices, so no more than the loader's arrays are ever held twice.

    Raises:
      CheckpointError: the loader finds no readable checkpoint.
      LoadError: the checkpoint does not fit the model.
    """
    seed = config.seed if seed is None else seed
    params, report = config.weight_loader.load(config.model, seed=seed, frozen_dtype=config.frozen_dtype)
    return _place(config, params, abstract_train_state(config, sharding), copy=False), report


def make_train_state(
    config: TrainConfig, params: Mapping[str, Any], *, sharding: Placement | None = None
) -> TrainState:
    """Return the state at step 0 of a run from these parameters, which are copied, frozen ones cast.

    Args:
      config: the run.
      params: all parameters of its model, flat or nested, numpy or jax arrays.
      sharding: where arrays go; by default the first device.

    Raises:
      ParamsMismatchError: the parameters are not the model's.
    """
    params = as_flat(params)
    config.model.require_fit(params)
    # Copies: the step donates its state, and must not take the caller's arrays with it.
    return _place(config, dict(params), abstract_train_state(config, sharding), copy=True)


def abstract_train_state(config: TrainConfig, sharding: Placement | None = None) -> TrainState:
    """Return shapes, dtypes and placement of a train state; nothing is allocated.

    Args:
      config: the run.
      sharding: where arrays go; by default the first device.
    """
    frozen = {path: jnp.dtype(config.frozen_dtype) for path in config.model.param_spec() if config.is_frozen(path)}
    params = {
        path: jax.ShapeDtypeStruct(leaf.shape, frozen.get(path, jnp.dtype(jnp.float32)))
        for path, leaf in config.model.param_spec().items()
    }
    trainable = {path: leaf for path, leaf in params.items() if path not in frozen}
    opt_state, ema = jax.eval_shape(lambda params: _fresh(config, params), trainable)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    state = TrainState(step, trainable, {path: params[path] for path in frozen}, opt_state, ema)
    template: TrainState = placed(state, sharding or first_device())
    return template


def _place(config: TrainConfig, params: Params, template: TrainState, *, copy: bool) -> TrainState:
    """Return the state at step 0, each array where the template has it. Empties ``params`` on the way."""

    def move(leaf: jax.ShapeDtypeStruct, path: str) -> jax.Array:
        array = params.pop(path)
        host = np.array(array, leaf.dtype) if copy else np.asarray(array).astype(leaf.dtype, copy=False)
        # Waited for: jax copies in the background, and until then the host's array is there too.
        return jax.block_until_ready(put(host, leaf.sharding))

    frozen = {path: move(leaf, path) for path, leaf in template.frozen.items()}
    trainable = {path: move(leaf, path) for path, leaf in template.trainable.items()}
    step = put(np.zeros((), np.int32), template.step.sharding)
    places = jax.tree.flatten(shardings((template.opt_state, template.ema)))
    opt_state, ema = _compiled_fresh(config, places[1], tuple(places[0]))(trainable)
    return TrainState(step, trainable, frozen, opt_state, ema)


def _fresh(config: TrainConfig, trainable: Params) -> tuple[optax.OptState, Params | None]:
    """Return optimizer state and average at step 0."""
    ema = None if config.ema_decay is None else jax.tree.map(jnp.copy, trainable)
    return _optimizer(config).init(trainable), ema


@functools.lru_cache(maxsize=16)
def _compiled_fresh(config: TrainConfig, treedef: Any, places: tuple[jax.sharding.Sharding, ...]) -> Any:
    """Return ``_fresh`` compiled for its devices. It is zeros and copies, run once: not worth optimizing."""
    options = quickest() if jax.default_backend() == "cpu" else None
    out = jax.tree.unflatten(treedef, places)
    return jax.jit(lambda trainable: _fresh(config, trainable), out_shardings=out, compiler_options=options)


def make_train_step(
    config: TrainConfig, *, sharding: Placement | None = None, compiler_options: dict[str, Any] | None = None
) -> Callable[..., Stepped]:
    """Return ``train_step`` compiled for the config.

    Args:
      config: the run, as ``train_step`` takes it.
      sharding: where the state is, if it is not on one device; the next state stays there.
      compiler_options: options of XLA, as ``jax.jit`` takes them.

    Returns:
      ``step(state, key, batch, noise=None, time=None)``, which returns the next state and the metrics ``loss`` and
        ``grad_norm``. ``key`` is the run's; ``batch`` is an ``Observation`` and actions float[B, A, action_dim];
        ``noise`` float[B, A, action_dim] and ``time`` float[B] in (0, 1] replace drawn ones; pi0-FAST draws none. It
        donates ``state``: use the state that it returns.
    """

    def step(state: TrainState, key: jax.Array, batch: Batch, noise: Any = None, time: Any = None) -> Stepped:
        return train_step(config, state, key, batch, noise=noise, time=time)

    # Left to itself, the compiler may place the next state elsewhere, and the step is compiled again for that.
    places = None if sharding is None else (shardings(abstract_train_state(config, sharding)), None)
    compiled: Callable[..., Stepped] = jax.jit(
        step, donate_argnums=0, out_shardings=places, compiler_options=compiler_options
    )
    return compiled


def train_step(
    config: TrainConfig,
    state: TrainState,
    key: jax.Array,
    batch: Batch,
    *,
    noise: jax.Array | None = None,
    time: jax.Array | None = None,
) -> Stepped:
    """Take one optimizer step on a batch.

    Args:
      config: model, optimizer, schedule, moving average.
      state: the state before the step.
      key: the run's key; step n draws noise and time from ``fold_in(key, n)``.
      batch: an observation and actions float[B, A, action_dim].
      noise: float[B, A, action_dim] in place of drawn noise; None for pi0-FAST, which has neither noise nor times.
      time: float[B] in (0, 1] in place of drawn times.

    Returns:
      The next state, and ``loss`` (the mean over batch and horizon; of pi0-FAST over the batch) and ``grad_norm``
        before clipping.
    """
    observation, actions = batch
    step_key = jax.random.fold_in(key, state.step)

    def mean_loss(trainable: Params) -> jax.Array:
        model = config.model.merge(state.frozen | trainable)
        if isinstance(model, Pi0Fast):
            of_samples = model.compute_loss(step_key, observation, train=True)
            return jnp.mean(of_samples)
        return jnp.mean(model.compute_loss(step_key, observation, actions, noise=noise, time=time, train=True))

    loss, grads = jax.value_and_grad(mean_loss)(state.trainable)
    updates, opt_state = _optimizer(config).update(grads, state.opt_state, state.trainable)
    trainable = optax.apply_updates(state.trainable, updates)
    ema = None if state.ema is None or config.ema_decay is None else average(state.ema, trainable, config.ema_decay)
    state = TrainState(state.step + 1, trainable, state.frozen, opt_state, ema)
    return state, {"loss": loss, "grad_norm": optax.tree.norm(grads)}


def average(old: Params, new: Params, decay: float) -> Params:
    """Return ``decay * old + (1 - decay) * new`` in a form that leaves a constant exactly as it is.

    Frozen parameters are not part of it: averaging them in bfloat16 walks them away (docs/bugs.md#b4: 43 % changed in
    100 steps).
    """
    averaged: Params = jax.tree.map(lambda o, n: jnp.where(o == n, n, o + (1 - decay) * (n - o)), old, new)
    return averaged


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    return config.optimizer.create(config.lr_schedule)
