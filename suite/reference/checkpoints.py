"""Checkpoints in openpi's layout: an orbax tree ``{"params": ...}`` whose leaves may carry nnx's ``value`` suffix.

``restore_params`` takes what openpi's training and release write (openpi ``models/model.py:281``), ``save_params``
writes what openpi reads. Beside the arrays, ours remember rank and alpha of the adapters and a digest of every
parameter in orbax's own metadata, where openpi looks past them.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import orbax.checkpoint as ocp

from suite.reference import integrity
from suite.reference import params as tree
from suite.reference.errors import CheckpointError
from suite.reference.finding import find_params
from suite.reference.params import Leaf, Params
from suite.reference.pi0_config import Pi0Config
from suite.reference.sharding import put
from suite.reference.stored_arrays import Reading, StoredArray, aligned, open_arrays, read_all
from suite.reference.untrusted import refuse_absurd_sizes, refuse_links_out
from suite.reference.value_suffix import SUFFIX, strip_value_suffix

# Bytes of small arrays that are read at once; of larger ones, one is read at a time.
_WINDOW = 64 << 20
# A second in all, for writes that nobody can wait for.
_REMOVALS, _SECONDS_BETWEEN_REMOVALS = 20, 0.05

# One sharding for all parameters, or one for each path.
Shardings: TypeAlias = jax.sharding.Sharding | Callable[[str], jax.sharding.Sharding]


class Stored(NamedTuple):
    """What a checkpoint says about itself without reading an array."""

    path: Path
    leaves: dict[str, Leaf]
    # The nested names under which each path is stored, and what we wrote beside them.
    keys: dict[str, tuple[str, ...]]
    metadata: dict[str, Any]

    @property
    def lora(self) -> dict[str, Any] | None:
        """Rank, alpha and rslora of every expert's adapters, as in ``Pi0Spec.lora``; None if they were not recorded."""
        return self.metadata.get("lora")

    @property
    def digests(self) -> dict[str, str]:
        """The recorded digest of every parameter, see ``integrity``; none if they were not recorded."""
        return integrity.read_record(self.path, self.metadata, self.leaves)


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
    stored = read_metadata(path, value_suffix=value_suffix)
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
    """Parameters of old or remote kinds, or in parts: in groups, for orbax holds all that it casts twice (bugs C14)."""
    guarded = [path for path in group if path in plan.digests]
    arrays = _restore(plan, guarded, as_stored=True)
    found |= integrity.digests_of(arrays)
    for path in guarded:
        restored[path] = _placed(plan, path, _cast(arrays.pop(path), plan.leaf(path).dtype, plan.allocate(path)))
    restored |= _restore(plan, [path for path in group if path not in plan.digests], as_stored=False)


def windows(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Paths in their order, as many at once as may be held beside a result; a larger one alone."""
    group: list[str] = []
    for path in sizes:
        if group and sum(sizes[member] for member in group) + sizes[path] > _WINDOW:
            yield group
            group = []
        group.append(path)
    if group:
        yield group


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


def save_params(
    params: Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    config: Pi0Config | None = None,
    value_suffix: bool = True,
) -> None:
    """Write a checkpoint that openpi and ``restore_params`` read. It appears at ``path`` whole or not at all.

    Args:
      params: flat or nested.
      path: the folder to make; its parents are made too.
      config: whose rank and alpha to record; without it a checkpoint with adapters cannot tell its alpha.
      value_suffix: write leaves as nnx states do, as openpi's training does.

    Raises:
      FileExistsError: something is at ``path`` already; it is left alone.
      ValueError: the adapters are not those of ``config``, or a name cannot be stored.
    """
    path = Path(path).expanduser().absolute()
    if path.exists():
        raise FileExistsError(f"{path}: already exists; choose another folder or remove it first")
    flat = tree.as_flat(params)
    if config is not None:
        _require_adapters_of(config, flat)
    item = params_item(flat, config=config, value_suffix=value_suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _scratch_folder(path) as scratch:
        with _checkpointer() as checkpointer:
            checkpointer.save(scratch / path.name, args=item)
        (scratch / path.name).rename(path)


def params_item(params: Params, *, config: Pi0Config | None, value_suffix: bool = True) -> ocp.args.PyTreeSave:
    """Flat parameters as an orbax item: openpi's nesting, with rank, alpha and digests in the metadata."""
    if not params:
        raise ValueError("there are no parameters to save")
    require_distinct_names(params)
    lora = None if config is None else config.lora
    metadata = {"value_suffix": value_suffix, "lora": lora, "digests": integrity.record(params)}
    if value_suffix:
        params = {f"{path}/{SUFFIX}": array for path, array in params.items()}
    return ocp.args.PyTreeSave(item={"params": tree.unflatten(params)}, custom_metadata=metadata)


def read_metadata(path: str | os.PathLike[str], *, value_suffix: bool | None = None) -> Stored:
    """Paths, shapes and dtypes of a checkpoint, reading no array. Raises like ``restore_params``."""
    folder = find_params(path)
    refuse_links_out(folder)
    try:
        item = item_metadata(folder)
        nested, metadata = item.tree, item.custom_metadata or {}
    except Exception as error:
        raise CheckpointError(f"{folder}: the checkpoint is damaged or incomplete ({_brief(error)})") from error
    if not isinstance(nested, Mapping) or not nested.get("params"):
        top = sorted(nested) if isinstance(nested, Mapping) else nested
        raise CheckpointError(f"{folder}: expected a checkpoint of {{'params': ...}}, found the top level {top}")
    flat = tree.flatten(nested["params"])
    suffix = metadata.get("value_suffix") if value_suffix is None else value_suffix
    names = strip_value_suffix(list(flat), value_suffix=suffix)
    refuse_absurd_sizes(folder, {name: flat[raw] for raw, name in names.items()})
    leaves = {name: tree.leaf_of(flat[raw]) for raw, name in names.items()}
    keys = {name: ("params", *tree.split(raw)) for raw, name in names.items()}
    integrity.read_record(folder, metadata, leaves)  # a parameter that was saved and is not there
    return Stored(folder, dict(sorted(leaves.items())), keys, metadata)


def item_metadata(folder: Path) -> Any:
    """What orbax keeps of a tree beside its arrays: ``tree`` of shapes and dtypes, and ``custom_metadata``.

    Asked of the handler: what a checkpointer returns changed shape after orbax 0.11.21, which breaks openpi (bugs F1).
    """
    return ocp.PyTreeCheckpointHandler().metadata(folder)


@contextmanager
def _scratch_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` for this call alone: orbax's own stays when a save fails, in the way of the next."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield scratch
    except BaseException:
        # Orbax's other writes run on for a moment after the first has failed, and bring files back.
        for _ in range(_REMOVALS):
            shutil.rmtree(scratch, ignore_errors=True)
            time.sleep(_SECONDS_BETWEEN_REMOVALS)
        raise
    scratch.rmdir()


def _brief(error: Exception) -> str:
    """What tensorstore says of an error, without the kilobytes of the spec that it appends."""
    return str(error).partition(" [tensorstore_spec=")[0].partition(". See full TensorStore details")[0]


def require_distinct_names(params: Iterable[str]) -> None:
    """Orbax joins keys with dots: a.b and a/b would share a place, and one of them would come back as the other."""
    paths: dict[str, str] = {}
    for path in params:
        if (other := paths.setdefault(path.replace("/", "."), path)) != path:
            raise ValueError(f"{path} and {other} have the same name in orbax, which joins keys with dots; rename one")


def _require_adapters_of(config: Pi0Config, params: Params) -> None:
    """What is recorded with a checkpoint is what it holds: a wrong alpha would be believed when it is loaded."""
    expected = {path: leaf for path, leaf in config.param_spec().items() if tree.is_adapter(path)}
    found = {path: array for path, array in params.items() if tree.is_adapter(path)}
    if wrong := tree.differences(expected, found, dtypes=False):
        raise ValueError(f"the adapters are not those of the config whose rank and alpha are to be recorded\n{wrong}")


def _require_representable(stored: Stored, paths: Iterable[str]) -> None:
    """jax has no float64 unless it is switched on, and would round without a word."""
    for path in paths:
        leaf = stored.leaves[path]
        if jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
            raise CheckpointError(
                f"{stored.path}: {path} is {leaf}, which jax arrays cannot hold; "
                "restore with restore_type=np.ndarray or with a dtype"
            )


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())


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
