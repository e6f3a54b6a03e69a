"""A model config: a ``Pi0Spec`` that also creates and loads the flax model."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from flax import nnx

from pi0_compat import params as tree
from pi0_compat.model.pi0 import Pi0
from pi0_compat.model.pi0_fast import Pi0Fast
from pi0_compat.model.pi0_spec import Pi0Spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pi0Config(Pi0Spec):
    """Sizes and options of a pi0, pi05 or pi0-FAST model, able to make one. It has the fields of ``Pi0Spec``.

    Attributes:
      family: ``pi0``; ``pi05``, which takes the state as part of the prompt and the time through adaRMS norms; or
        ``pi0_fast``, which has no action expert and writes actions as tokens.
      dtype: what the model computes in: float32, bfloat16 or float16. Parameters are created in float32.
      vocab_size: the number of tokens.
      image_size: pixels along each side of an image; a multiple of the encoder's patch size.
      siglip: sizes of the image encoder, a ``SiglipSpec``.
      paligemma: sizes and adapters of the language model, a ``GemmaSpec``.
      action_expert: sizes and adapters of the action expert, a ``GemmaSpec`` with the depth and heads of ``paligemma``;
        None for ``pi0_fast``.
      action_dim: numbers in an action, and in the robot's state.
      action_horizon: actions in a chunk.
      max_token_len: tokens in a prompt, padding included.
      dropout: the share of values that training sets to zero after every attention and feed-forward; 0 by default.
      remat: what training computes a second time to save memory: whole ``layers``, or only what is ``cheap``.
    """

    @classmethod
    def of(cls, spec: Pi0Spec) -> Self:
        """Return the config with the sizes and options of ``spec``."""
        return cls(**{field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)})

    def abstract_params(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return ``param_spec`` as jax takes it: for ``jax.eval_shape``, ``jax.jit(...).lower`` and shardings."""
        return {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in self.param_spec().items()}

    def create(self, seed: int) -> Pi0 | Pi0Fast:
        """Return a freshly initialized model of the family: ``init_params`` on the device.

        Nothing is compiled, so ``jax.jit`` would gain nothing, and a traced seed is rejected.
        """
        fresh = self.init_params(seed)
        # One by one: most are copied, and the host need not hold a whole model twice.
        return self.merge({path: jax.device_put(fresh.pop(path)) for path in sorted(fresh)})

    def load(self, params: Mapping[str, Any]) -> Pi0 | Pi0Fast:
        """Return the model with exactly these parameters on the device, in the dtypes they have.

        Args:
          params: flat or nested; numpy or jax arrays.

        Raises:
          ParamsMismatchError: a path is missing or left over, or a shape differs. Nothing is dropped, filled or cast.
        """
        params = tree.as_flat(params)
        self.require_fit(params)
        return self.merge({path: _on_device(array) for path, array in params.items()})

    def merge(self, params: Mapping[str, Any]) -> Pi0 | Pi0Fast:
        """Do what ``load`` does without its checks, for use inside ``jax.jit``; ``params`` are flat."""
        graphdef, treedef, paths = _structure(self)
        model: Pi0 | Pi0Fast = nnx.merge(graphdef, jax.tree.unflatten(treedef, [params[path] for path in paths]))
        return model


def _on_device(array: Any) -> jax.Array:
    """Return the array, or a copy on the device of an array on the host."""
    # jnp.asarray would compile a program for every shape, and device_put alone share the caller's memory on a CPU.
    return array if isinstance(array, jax.Array) else jax.device_put(np.array(array))


class _Structure(NamedTuple):
    """A model without its parameters; ``paths`` are in the order of the state's leaves."""

    graphdef: nnx.GraphDef
    treedef: jax.tree_util.PyTreeDef
    paths: list[str]


@functools.lru_cache(maxsize=64)
def _structure(config: Pi0Config) -> _Structure:
    kind = Pi0Fast if config.family == "pi0_fast" else Pi0
    graphdef, state = nnx.split(nnx.eval_shape(lambda: kind(config)))
    return _Structure(graphdef, jax.tree.structure(state), _paths(state))


def _paths(state: nnx.State) -> list[str]:
    """Return the slash paths of a state's leaves, in their order."""
    with_paths, _ = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(state))
    return [tree.join(key.key for key in keys) for keys, _ in with_paths]
