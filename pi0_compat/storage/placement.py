"""Where arrays live: on one device, or spread over a mesh (fully sharded data parallelism, FSDP).

A ``Placement`` is one sharding for all arrays, or a function from an array (or its shape and dtype) to its sharding.
Host arrays are cut on the host, so a device receives its own part and nothing else (docs/bugs.md#c15).
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from pi0_compat.params import Leaf, leaf_of

Placement: TypeAlias = Sharding | Callable[[Any], Sharding]


def first_device() -> Sharding:
    """All of every array on this process' first device."""
    return SingleDeviceSharding(jax.local_devices()[0])


def fsdp(mesh: Mesh, *, min_bytes: int = 4 << 20) -> Placement:
    """Every large array spread over all devices of the mesh, along its longest axis that they divide.

    Arrays below ``min_bytes``, vectors, and those that no axis allows to be cut are replicated, as in openpi
    (``training/sharding.py:48``).
    """

    def sharding_of(array: Any) -> Sharding:
        leaf = array if isinstance(array, Leaf) else leaf_of(array)
        axes: list[Any] = [None] * len(leaf.shape)
        divisible = [axis for axis, length in enumerate(leaf.shape) if length and length % mesh.size == 0]
        if len(axes) > 1 and divisible and leaf.num_bytes >= min_bytes:
            axes[max(divisible, key=lambda axis: leaf.shape[axis])] = mesh.axis_names
        return NamedSharding(mesh, PartitionSpec(*axes))

    return sharding_of


def split_batch(batch: Any, mesh: Mesh) -> Any:
    """A batch of host arrays with each sample on one device, or replicated where the devices do not divide the batch.

    Every process passes the whole batch and keeps its part.
    """

    def sharding_of(array: Any) -> Sharding:
        divides = len(array) % mesh.size == 0
        return NamedSharding(mesh, PartitionSpec(mesh.axis_names) if divides else PartitionSpec())

    return jax.tree.map(lambda array: put(array, sharding_of(array)), batch)


def put(array: Any, sharding: Sharding) -> jax.Array:
    """A host array on the devices of ``sharding``, those of other processes included; no device gets more than its
    part."""
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def placed(tree: Any, placement: Placement) -> Any:
    """Shapes and dtypes of a tree with the sharding of every array."""

    def struct(array: Any) -> jax.ShapeDtypeStruct:
        sharding = placement if isinstance(placement, Sharding) else placement(array)
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    return jax.tree.map(struct, tree)


def shardings(tree: Any) -> Any:
    """The sharding of every array of a tree, or of every placed shape."""
    return jax.tree.map(lambda array: array.sharding, tree)
