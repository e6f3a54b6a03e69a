"""The bytes that stay on a device between steps, exactly: the shapes of the train state, added up."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from pi0_compat.paths import VISION, expert_of, is_adapter
from pi0_compat.training.step import TrainState

_EXPERTS = ("language model", "action expert")


class Resident(NamedTuple):
    """What one part of a model holds in one role.

    Attributes:
      role: ``params``, ``optimizer`` or ``average``.
      part: ``vision``, ``language model``, ``action expert``, each with its ``adapters`` apart, ``projections``, or
        ``counters``.
      dtype: the name of the dtype.
      trainable: whether training changes it.
      arrays: the number of arrays.
      size: the number of values.
      num_bytes: their bytes, on all devices together, a replicated array once.
      device_bytes: the bytes on one device.
    """

    role: str
    part: str
    dtype: str
    trainable: bool
    arrays: int
    size: int
    num_bytes: int
    device_bytes: int


def part_of(path: str) -> str:
    """Return the part of the model that a parameter belongs to."""
    if path.startswith(VISION):
        return "vision"
    expert = expert_of(path)
    if expert is None:
        return "projections"
    return f"{_EXPERTS[expert]} adapters" if is_adapter(path) else _EXPERTS[expert]


def resident(state: TrainState) -> list[Resident]:
    """Return the state's bytes by role, part, dtype, and whether they are trained.

    Args:
      state: a train state, or its shapes as ``abstract_train_state`` returns them.
    """
    arrays, sizes, held, parts = (Counter[tuple[str, str, str, bool]]() for _ in range(4))
    for key, leaf in _leaves(state):
        arrays[key] += 1
        sizes[key] += math.prod(leaf.shape)
        held[key] += math.prod(leaf.shape) * leaf.dtype.itemsize
        parts[key] += math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    return [Resident(*key, arrays[key], sizes[key], held[key], parts[key]) for key in sorted(arrays)]


def _leaves(state: TrainState) -> Iterator[tuple[tuple[str, str, str, bool], Any]]:
    """Yield role, part, dtype name and whether it is trained, and the array."""
    for trainable, params in ((True, state.trainable), (False, state.frozen)):
        for path, leaf in params.items():
            yield ("params", part_of(path), leaf.dtype.name, trainable), leaf
    for path, leaf in (state.ema or {}).items():
        yield ("average", part_of(path), leaf.dtype.name, True), leaf
    for keys, leaf in jax.tree_util.tree_leaves_with_path((state.step, state.opt_state)):
        names = [key.key for key in keys if isinstance(key, jax.tree_util.DictKey)]
        yield ("optimizer", part_of(names[-1]) if names else "counters", leaf.dtype.name, True), leaf
