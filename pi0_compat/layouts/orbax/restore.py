"""Checkpoints in openpi's layout: an orbax tree ``{"params": ...}`` whose leaves may carry nnx's ``value`` suffix.

``restore_params`` takes what openpi's training and release write (openpi ``models/model.py:281``), ``save_params``
writes what openpi reads. Beside the arrays, ours remember rank and alpha of the adapters and a digest of every
parameter in orbax's own metadata, where openpi looks past them.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import orbax.checkpoint as ocp

from pi0_compat import params as tree
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.arrays import Reading, StoredArray, aligned, open_arrays, read_all
from pi0_compat.layouts.orbax.folder import find_params
from pi0_compat.layouts.orbax.metadata import (
    Stored,
    _brief,
    read_metadata,
)
from pi0_compat.layouts.orbax.save import _checkpointer
from pi0_compat.params import Leaf, Params
from pi0_compat.storage import digests as integrity
from pi0_compat.storage.placement import put
from pi0_compat.storage.stream import windows

# One sharding for all parameters, or one for each path.
Shardings: TypeAlias = jax.sharding.Sharding | Callable[[str], jax.sharding.Sharding]


def restore_params(
    path: str | os.PathLike[str],
    *,
    restore_type: type[np.ndarray] | type[jax.Array] = jax.Array,
    dtype: Any = None,
    sharding: Shardings | None = None,
    value_suffix: bool | None = None,
    verify: bool = True,
) -> Params:
    """The parameters of a checkpoint, in the order of their paths.

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
    return restore_leaves(stored, dtypes, restore_type=restore_type, sharding=sharding, verify=verify)


def restore_leaves(
    stored: Stored,
    dtypes: Mapping[str, Any],
    *,
    restore_type: type[np.ndarray] | type[jax.Array] = np.ndarray,
    sharding: Shardings | None = None,
    verify: bool = True,
) -> Params:
    """The parameters of ``dtypes``, each cast to its dtype (None: as stored). No other one is read.

    Several are read at once, largest first, within bounds: the host holds the result, and beside it a sixteenth of what
    is stored or one chunk of an array. What has a digest is read as it is stored, by every process whole, compared,
    then cast and placed. Without a digest, or with ``verify`` off, it is cast while it is read; where a sharding has
    devices of other processes, each process reads its own part.
    """
    if restore_type is jax.Array:
        _require_representable(stored, [path for path, dtype in dtypes.items() if dtype is None])
    digests = stored.digests if verify else {}
    places = {} if restore_type is np.ndarray else {path: _sharding_of(path, sharding) for path in dtypes}
    # Largest first: when little is left to hold, little is read.
    largest = sorted(dtypes, key=lambda path: stored.leaves[path].num_bytes, reverse=True)
    plan = _Plan(stored, {path: dtypes[path] for path in largest}, places, digests)
    restored, found = _read(plan)
    integrity.verify(stored.path, found, digests)
    return dict(sorted(restored.items()))


class _Plan(NamedTuple):
    """What is read of a checkpoint, as what, and where it goes: to the host where no place is told."""

    stored: Stored
    dtypes: dict[str, Any]
    places: dict[str, jax.sharding.Sharding]
    digests: dict[str, str]

    def leaf(self, path: str) -> Leaf:
        """Shape and dtype of what comes of a parameter."""
        leaf, dtype = self.stored.leaves[path], self.dtypes[path]
        return leaf if dtype is None else Leaf(leaf.shape, np.dtype(dtype))

    def stays(self, path: str) -> bool:
        """Whether the result is in the host's own memory."""
        return path not in self.places or all(d.platform == "cpu" for d in self.places[path].device_set)

    def allocate(self, path: str) -> Callable[[tuple[int, ...], np.dtype], np.ndarray]:
        """What makes the host array of a parameter: one that a jax array on the CPU is to take over is aligned."""
        return aligned if path in self.places else np.empty

    def is_read_whole(self, path: str) -> bool:
        """Whether this process needs all of a parameter."""
        return path in self.digests or path not in self.places or self.places[path].is_fully_addressable


def _read(plan: _Plan) -> tuple[Params, dict[str, str]]:
    """The parameters, and the digests that were found of those that have one."""
    stored = plan.stored
    restored: Params = {}
    found: dict[str, str] = {}
    whole = {path: stored.keys[path] for path in plan.dtypes if plan.is_read_whole(path)}
    try:
        arrays = open_arrays(stored.path, whole, stored.leaves)
        read_all(_reading(plan, path, array, restored, found) for path, array in arrays.items())
        for group in windows({path: stored.leaves[path].num_bytes for path in plan.dtypes if path not in arrays}):
            _read_through_orbax(plan, group, restored, found)
    except CheckpointError:
        raise
    except Exception as error:  # tensorstore and orbax raise all kinds
        raise CheckpointError(f"{stored.path}: the checkpoint is damaged or incomplete ({_brief(error)})") from error
    return restored, found


def _reading(plan: _Plan, path: str, array: StoredArray, restored: Params, found: dict[str, str]) -> Reading:
    """How one parameter is read, chunk by chunk."""
    leaf = plan.leaf(path)

    def finish(array: np.ndarray) -> np.ndarray:
        if path in plan.digests:
            found[path] = integrity.digest(array)
        return _cast(array, leaf.dtype, plan.allocate(path))

    def take(array: np.ndarray) -> None:
        restored[path] = _placed(plan, path, array)

    dtype = array.leaf.dtype if path in plan.digests else leaf.dtype
    kept = leaf.num_bytes if plan.stays(path) else 0
    return Reading(array, dtype, kept, plan.allocate(path), finish, take)


def _read_through_orbax(plan: _Plan, group: list[str], restored: Params, found: dict[str, str]) -> None:
    """Parameters of old or remote kinds, or in parts: in groups, for orbax holds all that it casts twice
    (docs/bugs.md#c14)."""
    guarded = [path for path in group if path in plan.digests]
    arrays = _restore(plan, guarded, as_stored=True)
    found |= integrity.digests_of(arrays)
    for path in guarded:
        restored[path] = _placed(plan, path, _cast(arrays.pop(path), plan.leaf(path).dtype, plan.allocate(path)))
    restored |= _restore(plan, [path for path in group if path not in plan.digests], as_stored=False)


def _restore(plan: _Plan, paths: list[str], *, as_stored: bool) -> Params:
    """Parameters as orbax reads them, and unless they are wanted as stored, casts and places them."""
    if not paths:
        return {}
    stored = plan.stored
    args = {
        path: ocp.RestoreArgs(restore_type=np.ndarray) if as_stored else _restore_args(plan, path) for path in paths
    }
    item = _nest(stored, dict.fromkeys(paths, 0))
    restore = ocp.args.PyTreeRestore(item=item, restore_args=_nest(stored, args), partial_restore=True)
    with _checkpointer() as checkpointer:
        restored = checkpointer.restore(stored.path, args=restore)
    return {path: _pick(restored, stored.keys[path]) for path in paths}


def _cast(array: np.ndarray, dtype: np.dtype, allocate: Callable[..., np.ndarray]) -> np.ndarray:
    """As numpy casts: what is too large becomes infinite, without a word."""
    if array.dtype == dtype:
        return array
    target = allocate(array.shape, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(target, array, casting="unsafe")
    return target


def _placed(plan: _Plan, path: str, array: np.ndarray) -> Any:
    return put(array, plan.places[path]) if path in plan.places else array


def _require_representable(stored: Stored, paths: Iterable[str]) -> None:
    """jax has no float64 unless it is switched on, and would round without a word."""
    for path in paths:
        leaf = stored.leaves[path]
        if jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
            raise CheckpointError(
                f"{stored.path}: {path} is {leaf}, which jax arrays cannot hold; "
                "restore with restore_type=np.ndarray or with a dtype"
            )


def _restore_args(plan: _Plan, path: str) -> ocp.RestoreArgs:
    dtype = plan.dtypes[path]
    if path not in plan.places:
        return ocp.RestoreArgs(restore_type=np.ndarray, dtype=dtype)
    return ocp.ArrayRestoreArgs(restore_type=jax.Array, dtype=dtype, sharding=plan.places[path])


def _sharding_of(path: str, sharding: Shardings | None) -> jax.sharding.Sharding:
    if sharding is None:
        mesh = jax.sharding.Mesh(jax.devices(), ("replica",))
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return sharding if isinstance(sharding, jax.sharding.Sharding) else sharding(path)


def _nest(stored: Stored, flat: Mapping[str, Any]) -> dict[str, Any]:
    """Values by path in the nesting of the checkpoint."""
    return tree.unflatten({tree.join(stored.keys[path]): value for path, value in flat.items()})


def _pick(nested: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    for key in keys:
        nested = nested[key]
    return nested
