"""A model config: a ``Pi0Spec`` that creates and loads the model, and knows which of its parameters LoRA freezes."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from pi0_compat import params as tree
from pi0_compat.diagnosis import advice
from pi0_compat.model.initialization import draw
from pi0_compat.model.pi0 import Pi0
from pi0_compat.model.specs import Pi0Spec
from pi0_compat.params import Params, differences
from pi0_compat.paths import expert_of, is_adapter


class ParamsMismatchError(ValueError):
    """Parameters that are not the model's: ``differences`` has every missing, unexpected and mismatched path."""

    def __init__(self, message: str, found: tree.Differences) -> None:
        super().__init__(message)
        self.differences = found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pi0Config(Pi0Spec):
    """Sizes and options of a pi0 or pi05 model, able to make one."""

    def create(self, seed: int) -> Pi0:
        """A freshly initialised model: ``init_params`` on the device.

        Nothing is compiled, so there is nothing to gain from ``jax.jit``, and a traced seed is refused.
        """
        fresh = self.init_params(seed)
        # One by one: most are copied, and the host need not hold a whole model twice.
        return self.merge({path: jax.device_put(fresh.pop(path)) for path in sorted(fresh)})

    def init_params(self, seed: int, *, only: Collection[str] | None = None) -> Params:
        """Fresh parameters, float32 numpy arrays, each a function of the seed and its path alone.

        So base parameters do not depend on whether there are adapters. ``only`` limits them to these paths; no other
        is drawn or allocated.

        Raises:
          KeyError: the model has no such path.
        """
        spec = self.param_spec()
        wanted = sorted(spec if only is None else only)
        if unknown := [path for path in wanted if path not in spec]:
            raise KeyError(f"the model has no parameter {unknown[0]}; `param_spec` has the paths of all {len(spec)}")
        return draw(seed, {path: spec[path].shape for path in wanted})

    def param_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Path -> shape and dtype of every parameter, without allocating one."""
        return dict(sorted(_structure(self).spec.items()))

    def load(self, params: Mapping[str, Any]) -> Pi0:
        """The model with exactly these parameters (flat or nested) on the device, in the dtypes they have.

        Raises:
          ParamsMismatchError: a path is missing or left over, or a shape differs. Nothing is dropped, filled or cast.
        """
        params = tree.as_flat(params)
        self.require_fit(params)
        return self.merge({path: _on_device(array) for path, array in params.items()})

    def require_fit(self, params: Params) -> None:
        """Raise ``ParamsMismatchError`` unless the paths and shapes are exactly the model's."""
        if found := differences(self.param_spec(), params, dtypes=False):
            raise ParamsMismatchError(f"{advice(self.family, params, found)}\n{found}", found)

    def merge(self, params: Mapping[str, Any]) -> Pi0:
        """``load`` without the checks, for use inside ``jax.jit``; ``params`` are flat."""
        graphdef, treedef, spec = _structure(self)
        return nnx.merge(graphdef, jax.tree.unflatten(treedef, [params[path] for path in spec]))

    def is_frozen(self, path: str) -> bool:
        """Whether fine-tuning leaves the parameter alone: a weight of an adapted expert that is no adapter itself."""
        expert = expert_of(path)
        return expert is not None and self.experts[expert].has_lora and not is_adapter(path)

    def freeze_filter(self) -> Callable[[tuple, Any], bool]:
        """``is_frozen`` as a filter for ``flax.nnx`` states."""
        return lambda path, _: self.is_frozen(tree.join(str(part) for part in path))


def _on_device(array: Any) -> jax.Array:
    """The array, or a copy on the device of one that is on the host."""
    # jnp.asarray would compile a program for every shape, and device_put alone share the caller's memory on a CPU.
    return array if isinstance(array, jax.Array) else jax.device_put(np.array(array))


class _Structure(NamedTuple):
    """A model without its parameters; ``spec`` is in the order of the state's leaves."""

    graphdef: nnx.GraphDef
    treedef: jax.tree_util.PyTreeDef
    spec: dict[str, jax.ShapeDtypeStruct]


@functools.lru_cache(maxsize=64)
def _structure(config: Pi0Config) -> _Structure:
    graphdef, state = nnx.split(nnx.eval_shape(lambda: Pi0(config)))
    leaves, treedef = jax.tree.flatten(state)
    paths = _paths(state)
    spec = {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in zip(paths, leaves, strict=True)}
    return _Structure(graphdef, treedef, spec)


def _paths(state: nnx.State) -> list[str]:
    """The slash paths of a state's leaves, in their order."""
    with_paths, _ = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(state))
    return [tree.join(key.key for key in keys) for keys, _ in with_paths]
