"""Names, shapes, dtypes and recorded facts of an orbax checkpoint, without reading an array."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pi0_compat import params as tree
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.folder import PARAMS
from pi0_compat.layouts.orbax.item import StoredLeaf, brief, item_metadata, tree_entries
from pi0_compat.layouts.orbax.untrusted import refuse_absurd_sizes, refuse_links_out
from pi0_compat.params import Leaf
from pi0_compat.storage import digests as integrity

SUFFIX = "value"


def top_names(folder: Path) -> set[str]:
    """Return the names at the top of an orbax tree.

    Raises:
      CheckpointError: its metadata cannot be read.
    """
    return {entry.keys[0] for entry in tree_entries(folder) if entry.keys}


class Metadata(NamedTuple):
    """What a checkpoint says about itself; no array has been read.

    Attributes:
      path: the folder of the tree.
      leaves: path of every parameter -> its shape and dtype.
      keys: path of every parameter -> the nested names that it is stored under.
      custom: what ``save_params`` records beside the arrays; empty for a checkpoint of openpi's.
    """

    path: Path
    leaves: dict[str, Leaf]
    keys: dict[str, tuple[str, ...]]
    custom: dict[str, Any]

    @property
    def lora(self) -> dict[str, Any] | None:
        """Rank, alpha and rslora of every expert's adapters, as in ``Pi0Spec.lora``; None if they were not recorded."""
        return self.custom.get("lora")

    @property
    def family(self) -> str | None:
        """The family of the model, or of the one that adapters alone were extracted from; None if not recorded."""
        return self.custom.get("family")

    @property
    def digests(self) -> dict[str, str]:
        """The recorded digest of every parameter, see ``storage.digests``; none if they were not recorded."""
        return integrity.read_record(self.path, self.custom, self.leaves)


def read_metadata(folder: Path, *, value_suffix: bool | None = None) -> Metadata:
    """Return paths, shapes and dtypes of a checkpoint, reading no array. Raises like ``restore_params``.

    Args:
      folder: the local folder of the tree, as ``detect`` or ``find_params`` returns it.
      value_suffix: see ``strip_value_suffix``; None reads it from the checkpoint's own record.
    """
    refuse_links_out(folder)
    try:
        item = item_metadata(folder)
        nested, metadata = item.tree, item.custom_metadata or {}
    except Exception as error:
        raise CheckpointError(f"{folder}: the checkpoint is damaged or incomplete ({brief(error)})") from error
    if not isinstance(nested, Mapping) or not nested.get(PARAMS):
        raise CheckpointError(f"{folder}: expected a checkpoint of {{'params': ...}}, found {_top_level(nested)}")
    flat = tree.flatten(nested[PARAMS])
    if others := [path for path, leaf in flat.items() if not isinstance(leaf, StoredLeaf)]:
        raise CheckpointError(f"{folder}: {others[0]} is not an array; expected arrays alone below `params`")
    try:
        require_distinct_names(flat, value_suffix=False)
    except ValueError as error:
        raise CheckpointError(f"{folder}: one parameter overwrote another when it was saved: {error}") from error
    suffix = metadata.get("value_suffix") if value_suffix is None else value_suffix
    names = strip_value_suffix(list(flat), value_suffix=suffix)
    refuse_absurd_sizes(folder, {name: flat[raw] for raw, name in names.items()})
    leaves = {name: tree.leaf_of(flat[raw]) for raw, name in names.items()}
    keys = {name: (PARAMS, *tree.split(raw)) for raw, name in names.items()}
    integrity.read_record(folder, metadata, leaves)  # a parameter that was saved and is not there
    return Metadata(folder, dict(sorted(leaves.items())), keys, metadata)


def _top_level(nested: Any) -> str:
    """Describe the top of a tree that is not openpi's."""
    if isinstance(nested, Mapping):
        return f"the top level {sorted(nested)}"
    return f"a list of {len(nested)} at the top level" if isinstance(nested, list) else "a single leaf"


def require_distinct_names(params: Iterable[str], *, value_suffix: bool) -> None:
    """Refuse names that share a place in orbax, where one parameter would come back as the other.

    Orbax joins keys with dots, and adds a slash at the end unless there is one: ``a.b`` and ``a/b`` share a place, and
    without the value suffix a key that ends in a slash shares it with the key that does not.

    Raises:
      ValueError: two names share a place.
    """
    paths: dict[str, str] = {}
    for path in params:
        name = ".".join((*tree.split(path), *([SUFFIX] if value_suffix else []))).rstrip("/")
        if (other := paths.setdefault(name, path)) != path:
            raise ValueError(f"{path} and {other} have the same name in orbax, which joins keys with dots; rename one")


def strip_value_suffix(paths: list[str], *, value_suffix: bool | None = None) -> dict[str, str]:
    """Metadata path -> parameter path, without the ``value`` that nnx states append to each.

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
        if not slash or name != SUFFIX or value_suffix is False:
            return False
        return bool(value_suffix) or len(children[parent]) == 1

    return {path: path.rpartition("/")[0] if is_suffix(path) else path for path in paths}
