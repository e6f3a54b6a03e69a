"""Read parameters of an orbax checkpoint: several at once, within bounds, compared with their digests and cast.

Results stay on the host unless a ``Placing`` takes them elsewhere, as ``restore`` does with jax. No jax is needed here.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from pi0_compat.layouts.orbax.arrays import Reading, StoredArray, aligned, open_arrays, read_all
from pi0_compat.layouts.orbax.item import naming_damage
from pi0_compat.layouts.orbax.metadata import Metadata
from pi0_compat.params import Leaf, Params
from pi0_compat.storage import digests as integrity


class Placing:
    """Where parameters go once they are read. This one leaves them on the host as numpy arrays."""

    def is_placed(self, path: str) -> bool:
        """Return whether ``place`` makes another array of the one that was read, which may take over its memory."""
        return False

    def stays(self, path: str) -> bool:
        """Return whether the result is in the host's own memory."""
        return True

    def is_read_whole(self, path: str) -> bool:
        """Return whether this process needs all of a parameter."""
        return True

    def place(self, path: str, array: np.ndarray) -> Any:
        """Return the result for a parameter that was read whole, in its final dtype."""
        return array

    def read_parts(self, path: str, store: Any) -> Any:
        """Return the result for a parameter of which this process needs parts.

        Args:
          path: of the parameter.
          store: the array in tensorstore, already cast to its final dtype.
        """
        raise NotImplementedError


def restore_leaves(
    stored: Metadata, dtypes: Mapping[str, DTypeLike | None], *, placing: Placing | None = None, verify: bool = True
) -> Params:
    """Read the parameters of ``dtypes``, and no others.

    Several are read at once, largest first, within bounds: the host holds the result, and beside it a sixteenth of what
    is stored or one chunk of an array. A parameter with a digest is read as it is stored, by every process whole,
    compared, then cast and placed. Without a digest, or with ``verify`` off, it is cast while it is read; where a
    sharding has devices of other processes, each process reads its own part.

    Args:
      stored: the checkpoint's metadata.
      dtypes: path -> dtype to cast to as numpy casts (too large a value becomes infinite); None keeps the stored one.
      placing: where the results go; by default they stay on the host as numpy arrays.
      verify: compare each parameter with its digest, where the checkpoint records them.

    Raises:
      CheckpointError: an array is damaged or missing, or is not what was saved.
    """
    digests = stored.digests if verify else {}
    # Largest first: when little is left to hold, little is read.
    largest = sorted(dtypes, key=lambda path: stored.leaves[path].num_bytes, reverse=True)
    plan = _Plan(stored, {path: dtypes[path] for path in largest}, placing or Placing(), digests)
    restored, found = _read(plan)
    integrity.verify(stored.path, found, digests)
    return dict(sorted(restored.items()))


class _Plan(NamedTuple):
    """What is read of a checkpoint, as what, and where it goes."""

    stored: Metadata
    dtypes: dict[str, DTypeLike | None]
    placing: Placing
    digests: dict[str, str]

    def leaf(self, path: str) -> Leaf:
        """Return shape and dtype of the result."""
        leaf, dtype = self.stored.leaves[path], self.dtypes[path]
        return leaf if dtype is None else Leaf(leaf.shape, np.dtype(dtype))

    def allocate(self, path: str, leaf: Leaf) -> np.ndarray:
        """Return an empty host array for a parameter; one that a jax array on the CPU takes over is aligned."""
        return aligned(*leaf) if self.placing.is_placed(path) else np.empty(*leaf)

    def is_read_whole(self, path: str) -> bool:
        """Return whether this process reads all of a parameter."""
        return path in self.digests or self.placing.is_read_whole(path)


def _read(plan: _Plan) -> tuple[Params, dict[str, str]]:
    """Return the parameters, and the digests that were found of those that have one."""
    stored = plan.stored
    restored: Params = {}
    found: dict[str, str] = {}
    with naming_damage(stored.path):
        arrays = open_arrays(stored.path, {path: stored.keys[path] for path in plan.dtypes}, stored.leaves)
        whole = [path for path in arrays if plan.is_read_whole(path)]
        read_all(_reading(plan, path, arrays[path], restored, found) for path in whole)
        for path in plan.dtypes:
            if path not in arrays:
                _finish(plan, path, np.empty(*stored.leaves[path]), restored, found)
            elif path not in restored:
                restored[path] = plan.placing.read_parts(path, arrays[path].cast(plan.leaf(path).dtype))
    return restored, found


def _reading(plan: _Plan, path: str, array: StoredArray, restored: Params, found: dict[str, str]) -> Reading:
    """Return how one parameter is read, chunk by chunk."""
    leaf = plan.leaf(path)

    def finish(array: np.ndarray) -> np.ndarray:
        if path in plan.digests:
            found[path] = integrity.digest(array)
        return _cast(plan, path, array)

    def take(array: np.ndarray) -> None:
        restored[path] = plan.placing.place(path, array)

    dtype = array.leaf.dtype if path in plan.digests else leaf.dtype
    kept = leaf.num_bytes if plan.placing.stays(path) else 0
    return Reading(array, dtype, kept, lambda shape, dtype: plan.allocate(path, Leaf(shape, dtype)), finish, take)


def _finish(plan: _Plan, path: str, array: np.ndarray, restored: Params, found: dict[str, str]) -> None:
    """Take an array without values, of which nothing is stored."""
    if path in plan.digests:
        found[path] = integrity.digest(array)
    restored[path] = plan.placing.place(path, _cast(plan, path, array))


def _cast(plan: _Plan, path: str, array: np.ndarray) -> np.ndarray:
    """Cast as numpy casts: what is too large becomes infinite, without a warning."""
    leaf = plan.leaf(path)
    if array.dtype == leaf.dtype:
        return array
    target = plan.allocate(path, leaf)
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(target, array, casting="unsafe")
    return target
