"""Restore checkpoints in openpi's layout as jax arrays.

``restore_params`` reads what openpi's training and release write (openpi ``models/model.py:281``), ``save_params``
writes what openpi reads. Beside the arrays, our checkpoints record rank and alpha of the adapters and a digest of every
parameter in orbax's own metadata, which openpi ignores.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
from numpy.typing import DTypeLike

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.folder import find_params
from pi0_compat.layouts.orbax.metadata import Metadata, read_metadata
from pi0_compat.layouts.orbax.read import Placing, restore_leaves
from pi0_compat.params import Params
from pi0_compat.storage.placement import put

# One sharding for all parameters, or one for each path.
Shardings: TypeAlias = jax.sharding.Sharding | Callable[[str], jax.sharding.Sharding]


def restore_params(
    path: str | os.PathLike[str],
    *,
    restore_type: type[np.ndarray] | type[jax.Array] = jax.Array,
    dtype: DTypeLike | None = None,
    sharding: Shardings | None = None,
    value_suffix: bool | None = None,
    verify: bool = True,
) -> Params:
    """Return the parameters of a checkpoint, in the order of their paths.

    Args:
      path: the ``params`` folder, local or a URL (downloaded once into a cache).
      restore_type: ``jax.Array``, or ``np.ndarray`` for host arrays.
      dtype: cast every parameter while it is read, as numpy casts: what is too large becomes infinite. Without it each
        keeps the dtype it was stored in.
      sharding: where jax arrays go, for all or by path; without it they are replicated over all devices.
      value_suffix: whether the leaves carry nnx's ``value`` suffix; without it, see ``strip_value_suffix``.
      verify: compare each parameter with its digest, where the checkpoint records them; see ``restore_leaves``.

    Raises:
      CheckpointError: there is no readable checkpoint at ``path``, and the message says what is there and what to pass;
        or a parameter is not what was saved.
    """
    stored = read_metadata(find_params(path), value_suffix=value_suffix)
    dtypes = dict.fromkeys(stored.leaves, dtype)
    if restore_type is np.ndarray:
        return restore_leaves(stored, dtypes, verify=verify)
    return restore_on_devices(stored, dtypes, sharding=sharding, verify=verify)


def restore_on_devices(
    stored: Metadata,
    dtypes: Mapping[str, DTypeLike | None],
    *,
    sharding: Shardings | None = None,
    verify: bool = True,
) -> Params:
    """Return the parameters of ``dtypes`` as jax arrays; see ``restore_leaves`` for how they are read.

    Args:
      stored: the checkpoint's metadata.
      dtypes: path -> dtype to cast to; None keeps the stored one.
      sharding: where the arrays go, for all or by path; without it they are replicated over all devices.
      verify: compare each parameter with its digest, where the checkpoint records them.

    Raises:
      CheckpointError: an array is damaged or missing, is not what was saved, or is wider than jax arrays can be.
    """
    _require_representable(stored, dtypes)
    placing = _OnDevices({path: _sharding_of(path, sharding) for path in dtypes})
    return restore_leaves(stored, dtypes, placing=placing, verify=verify)


class _OnDevices(Placing):
    """Each parameter goes where its sharding says."""

    def __init__(self, places: Mapping[str, jax.sharding.Sharding]) -> None:
        self._places = places

    def is_placed(self, path: str) -> bool:
        """Every parameter is."""
        return True

    def stays(self, path: str) -> bool:
        """Return whether the devices are the host's own CPU."""
        return all(device.platform == "cpu" for device in self._places[path].device_set)

    def is_read_whole(self, path: str) -> bool:
        """Return whether this process has all devices of the sharding."""
        return bool(self._places[path].is_fully_addressable)

    def place(self, path: str, array: np.ndarray) -> jax.Array:
        """Return the array on its devices."""
        return put(array, self._places[path])

    def read_parts(self, path: str, store: Any) -> jax.Array:
        """Return the array, of which every device of this process reads its own part."""
        return jax.make_array_from_callback(
            tuple(store.shape), self._places[path], lambda index: store[index].read().result()
        )


def _require_representable(stored: Metadata, dtypes: Mapping[str, DTypeLike | None]) -> None:
    """Reject what jax would round without a warning: it has no float64 unless that is switched on."""
    for path in (path for path, dtype in dtypes.items() if dtype is None):
        leaf = stored.leaves[path]
        if jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
            raise CheckpointError(
                f"{stored.path}: {path} is {leaf}, which jax arrays cannot hold; "
                "restore with restore_type=np.ndarray or with a dtype"
            )


def _sharding_of(path: str, sharding: Shardings | None) -> jax.sharding.Sharding:
    if sharding is None:
        mesh = jax.sharding.Mesh(jax.devices(), ("replica",))
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return sharding if isinstance(sharding, jax.sharding.Sharding) else sharding(path)
