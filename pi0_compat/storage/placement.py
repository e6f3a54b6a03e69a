"""Place arrays on one device, or spread over a mesh (fully sharded data parallelism, FSDP).

A ``Placement`` is one sharding for all arrays, or a function from an array (or its shape and dtype) to its sharding.
Host arrays are cut on the host, so a device receives only its own part (docs/bugs.md#c15).
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from pi0_compat.params import Leaf, leaf_of

Placement: TypeAlias = Sharding | Callable[[Any], Sharding]


def first_device() -> Sharding:
    """Return the sharding that puts every array on the first device of this process."""
    return SingleDeviceSharding(jax.local_devices()[0])


def fsdp(mesh: Mesh, *, min_bytes: int = 4 << 20) -> Placement:
    """Return a placement that spreads each large array over all devices, along its longest axis that they divide.

    Vectors, arrays below ``min_bytes``, and arrays without such an axis are replicated, as in openpi
    (``training/sharding.py:48``).

    Args:
      mesh: the devices.
      min_bytes: the smallest array to spread, in bytes.
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
    """Return a batch of host arrays with each sample on one device; replicated if the devices do not divide it.

    Every process passes the whole batch and keeps its part.

    Args:
      batch: a tree of arrays [batch, ...].
      mesh: the devices.
    """

    def sharding_of(array: Any) -> Sharding:
        divides = len(array) % mesh.size == 0
        return NamedSharding(mesh, PartitionSpec(mesh.axis_names) if divides else PartitionSpec())

    return jax.tree.map(lambda array: put(array, sharding_of(array)), batch)


def put(array: Any, sharding: Sharding) -> jax.Array:
    """Return a host array on the devices of ``sharding``, including those of other processes.

    Each device receives only its part.
    """
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def placed(tree: Any, placement: Placement) -> Any:
    """Return the shapes and dtypes of a tree with the sharding of every array."""

    def struct(array: Any) -> jax.ShapeDtypeStruct:
        sharding = placement if isinstance(placement, Sharding) else placement(array)
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    return jax.tree.map(struct, tree)


def shardings(tree: Any) -> Any:
    """Return the sharding of every array of a tree, or of every placed shape."""
    return jax.tree.map(lambda array: array.sharding, tree)
