"""Checkpoints in openpi's layout: an orbax tree ``{"params": ...}`` whose leaves may carry nnx's ``value`` suffix.

``restore_params`` takes what openpi's training and release write (openpi ``models/model.py:281``), ``save_params``
writes what openpi reads. Beside the arrays, ours remember rank and alpha of the adapters and a digest of every
parameter in orbax's own metadata, where openpi looks past them.
"""

import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import orbax.checkpoint as ocp

from suite.reference import integrity
from suite.reference import params as tree
from suite.reference.download import fetch
from suite.reference.errors import CheckpointError
from suite.reference.params import Leaf, Params
from suite.reference.pi0_config import Pi0Config
from suite.reference.sharding import put
from suite.reference.untrusted import refuse_absurd_sizes, refuse_links_out

METADATA_FILE = "_METADATA"
# Orbax renames a folder of this name when it is whole.
_UNFINISHED = ".orbax-checkpoint-tmp"
_SUFFIX = "value"
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

    Large parameters are read one at a time, largest first: the host never holds more than the result and one of them.
    What has a digest is read as it is stored, by every process whole, compared, then cast and placed. Without a digest,
    or with ``verify`` off, orbax casts and places while it reads, and each process reads its own part.
    """
    if restore_type is jax.Array:
        _require_representable(stored, [path for path, dtype in dtypes.items() if dtype is None])
    digests = stored.digests if verify else {}
    # Largest first: when little is left to hold, little is read.
    sizes = {path: stored.leaves[path].num_bytes for path in dtypes}
    sizes = dict(sorted(sizes.items(), key=lambda item: item[1], reverse=True))
    restored: Params = {}
    # In groups too: orbax reads everything at once, and holds all of it twice while it casts (bugs C14).
    for group in windows({path: size for path, size in sizes.items() if path not in digests}):
        restored |= _read(stored, {path: dtypes[path] for path in group}, restore_type, sharding)
    for group in windows({path: size for path, size in sizes.items() if path in digests}):
        arrays = _read(stored, dict.fromkeys(group), np.ndarray, None)
        integrity.verify(stored.path, arrays, digests)
        for path in group:
            restored[path] = _placed(path, _cast(arrays.pop(path), dtypes[path]), restore_type, sharding)
    return dict(sorted(restored.items()))


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


def _read(stored: Stored, dtypes: Mapping[str, Any], restore_type: type, sharding: Shardings | None) -> Params:
    """Parameters as orbax reads, casts and places them."""
    args = {path: _restore_args(path, dtypes[path], restore_type, sharding) for path in dtypes}
    item = _nest(stored, dict.fromkeys(dtypes, 0))
    restore = ocp.args.PyTreeRestore(item=item, restore_args=_nest(stored, args), partial_restore=True)
    with _checkpointer() as checkpointer:
        try:
            restored = checkpointer.restore(stored.path, args=restore)
        except Exception as error:  # tensorstore and orbax raise all kinds
            raise CheckpointError(
                f"{stored.path}: the checkpoint is damaged or incomplete ({_brief(error)})"
            ) from error
    return {path: _pick(restored, stored.keys[path]) for path in dtypes}


def _cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    """As numpy casts: what is too large becomes infinite, without a word."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array if dtype is None else array.astype(dtype, copy=False)


def _placed(path: str, array: np.ndarray, restore_type: type, sharding: Shardings | None) -> Any:
    return array if restore_type is np.ndarray else put(array, _sharding_of(path, sharding))


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
    _require_distinct_names(params)
    lora = None if config is None else config.lora
    metadata = {"value_suffix": value_suffix, "lora": lora, "digests": integrity.record(params)}
    if value_suffix:
        params = {f"{path}/{_SUFFIX}": array for path, array in params.items()}
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


def strip_value_suffix(paths: list[str], *, value_suffix: bool | None = None) -> dict[str, str]:
    """Stored path -> parameter path, without the ``value`` that nnx states append to each.

    openpi strips it if all leaves have it (``model.py:328``), which leaves it on in mixed trees. Here a leaf called
    ``value`` is a suffix if it is its parent's only child, and a parameter of that name if it has siblings. An only
    child that is really called ``value`` looks like a suffix: say ``value_suffix=False`` (our own checkpoints record
    it).
    """
    children: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        keys = path.split("/")
        for depth, key in enumerate(keys):
            children["/".join(keys[:depth])].add(key)

    def is_suffix(path: str) -> bool:
        parent, slash, name = path.rpartition("/")
        if not slash or name != _SUFFIX or value_suffix is False:
            return False
        return bool(value_suffix) or len(children[parent]) == 1

    return {path: path.rpartition("/")[0] if is_suffix(path) else path for path in paths}


def find_params(path: str | os.PathLike[str]) -> Path:
    """The local folder of a checkpoint; a wrong one is refused with what is there and what to pass instead."""
    folder = fetch(path)
    if not folder.exists():
        raise CheckpointError(f"{folder}: no such folder; expected the `params` folder of a checkpoint")
    if folder.is_file():
        raise CheckpointError(
            f"{folder}: is a file; expected the `params` folder of a checkpoint{_file_advice(folder)}"
        )
    if _UNFINISHED in folder.name:
        raise CheckpointError(f"{folder}: is what a killed save left behind; pass a folder that was saved to the end")
    if not _holds_checkpoint(folder):
        raise CheckpointError(f"{folder}: holds no checkpoint (no {METADATA_FILE}); {_folder_advice(folder)}")
    return folder


def _folder_advice(folder: Path) -> str:
    """What a folder without a checkpoint is, as far as its content tells."""
    torch = sorted(file.name for file in folder.glob("*.safetensors"))
    if _holds_checkpoint(folder / "params"):
        beside = f"; {torch[0]} beside it is another model, and nothing says which of the two is meant" if torch else ""
        return f"this is the folder of a step: pass {folder / 'params'}{beside}"
    steps = [child for child in folder.iterdir() if child.name.isdigit() and _holds_checkpoint(child / "params")]
    if steps:
        return f"this is the folder of a run: pass {max(steps, key=lambda step: int(step.name)) / 'params'}"
    if _holds_checkpoint(folder.parent / "params"):
        return f"the parameters are beside it: pass {folder.parent / 'params'}"
    if torch:
        return f"{torch[0]} is a PyTorch checkpoint, which has another layout: use a loader for that one"
    children = sorted(child.name for child in folder.iterdir())
    return f"it has {children[:5]}" if children else "it is empty"


def _holds_checkpoint(folder: Path) -> bool:
    return (folder / METADATA_FILE).is_file()


def _file_advice(file: Path) -> str:
    if file.suffix == ".npz":
        return "; for an official PaliGemma npz use PaliGemmaWeightLoader(path)"
    if file.suffix == ".safetensors":
        return "; a PyTorch checkpoint has another layout: use a loader for that one"
    return f"; pass its folder, {file.parent}" if _holds_checkpoint(file.parent) else ""


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


def _require_distinct_names(params: Params) -> None:
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


def _restore_args(path: str, dtype: Any, restore_type: type, sharding: Shardings | None) -> ocp.RestoreArgs:
    if restore_type is np.ndarray:
        return ocp.RestoreArgs(restore_type=np.ndarray, dtype=dtype)
    return ocp.ArrayRestoreArgs(restore_type=jax.Array, dtype=dtype, sharding=_sharding_of(path, sharding))


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
