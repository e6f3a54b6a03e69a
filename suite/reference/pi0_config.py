"""A model config: a ``Pi0Spec`` that creates and loads the model, and knows which of its parameters LoRA freezes."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from suite.reference import params as tree
from suite.reference.advice import advice
from suite.reference.compiling import quickest
from suite.reference.params import Params, differences
from suite.reference.pi0 import Pi0
from suite.reference.specs import Pi0Spec

# The components below PaliGemma/llm that belong to the action expert end in this.
_ACTION_EXPERT_SUFFIX = "_1"


class ParamsMismatchError(ValueError):
    """Parameters that are not the model's: ``differences`` has every missing, unexpected and mismatched path."""

    def __init__(self, message: str, found: tree.Differences) -> None:
        super().__init__(message)
        self.differences = found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pi0Config(Pi0Spec):
    """Sizes and options of a pi0 or pi05 model, able to make one."""

    def create(self, seed: int) -> Pi0:
        """A freshly initialised model. Base parameters do not depend on whether there are adapters.

        Call it under ``jax.jit``: one by one, the initialisers of even a tiny model take most of a minute.
        """
        params_key, lora_key = jax.random.split(jax.random.key(seed))
        return Pi0(self, rngs=nnx.Rngs(params=params_key, lora=lora_key))

    def init_params(self, seed: int, *, only: Collection[str] | None = None) -> Params:
        """Fresh parameters, float32; ``only`` limits them to these paths, so that no other is ever allocated."""
        wanted = sorted(self.param_spec() if only is None else only)
        return dict(zip(wanted, _initializer(self, tuple(wanted))(seed), strict=True))

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
        return self.merge({path: jnp.asarray(array) for path, array in params.items()})

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
        return expert is not None and self.experts[expert].has_lora and not tree.is_adapter(path)

    def freeze_filter(self) -> Callable[[tuple, Any], bool]:
        """``is_frozen`` as a filter for ``flax.nnx`` states."""
        return lambda path, _: self.is_frozen(tree.join(str(part) for part in path))


def expert_of(path: str) -> int | None:
    """The expert that a parameter belongs to: 0 PaliGemma's language model, 1 the action expert, None neither.

    The components are parsed: openpi's pattern ``.*llm.*_1.*`` takes ``Dense_1`` and ``mlp_10`` for the action
    expert's too.
    """
    keys = tree.split(path)
    if keys[:2] != ("PaliGemma", "llm"):
        return None
    modules = [key for key in keys[2:] if not key.startswith("Dense_")]
    return int(any(key.endswith(_ACTION_EXPERT_SUFFIX) for key in modules))


class _Structure(NamedTuple):
    """A model without its parameters; ``spec`` is in the order of the state's leaves."""

    graphdef: nnx.GraphDef
    treedef: jax.tree_util.PyTreeDef
    spec: dict[str, jax.ShapeDtypeStruct]


@functools.lru_cache(maxsize=64)
def _structure(config: Pi0Config) -> _Structure:
    graphdef, state = nnx.split(nnx.eval_shape(lambda: config.create(0)))
    leaves, treedef = jax.tree.flatten(state)
    paths = _paths(state)
    spec = {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in zip(paths, leaves, strict=True)}
    return _Structure(graphdef, treedef, spec)


def _paths(state: nnx.State) -> list[str]:
    """The slash paths of a state's leaves, in their order."""
    with_paths, _ = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(state))
    return [tree.join(key.key for key in keys) for keys, _ in with_paths]


@functools.lru_cache(maxsize=64)
def _initializer(config: Pi0Config, paths: tuple[str, ...]) -> Callable[[int], list[jax.Array]]:
    def init(seed: int) -> list[jax.Array]:
        state = nnx.state(config.create(seed))
        fresh = dict(zip(_paths(state), jax.tree.leaves(state), strict=True))
        return [fresh[path] for path in paths]

    size = sum(math.prod(_structure(config).spec[path].shape) for path in paths)
    # Optimising the random generators costs the CPU backend 20 s for any size, and saves 5 s per 100 M values.
    quick = size < 100_000_000 and jax.default_backend() == "cpu"
    return jax.jit(init, compiler_options=quickest() if quick else None)
