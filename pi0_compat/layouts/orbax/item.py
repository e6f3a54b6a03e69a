"""What orbax keeps of a tree beside its arrays, read without orbax: names, shapes, dtypes, and recorded facts.

Orbax writes the names and kinds of all leaves to ``_METADATA``; shapes and dtypes are in the metadata of every array,
which tensorstore reads. The result is that of ``PyTreeCheckpointHandler().metadata`` (a test compares the two).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.address import array_spec, read_tree_metadata
from pi0_compat.layouts.orbax.folder import METADATA_FILE
from pi0_compat.storage.foreign import what_it_is

# The kinds of leaves whose values lie in an array.
_ARRAYS = ("jax.Array", "np.ndarray", "scalar")
# The kinds of leaves that are nothing but a mark in the tree.
_EMPTY: dict[str, Any] = {"None": None, "Dict": {}, "List": [], "Tuple": ()}
# How orbax notes that a key is an index in a list.
_INDEX = 1


class TreeEntry(NamedTuple):
    """A leaf of an orbax tree.

    Attributes:
      keys: its nested names.
      kind: what orbax calls it: ``jax.Array``, ``np.ndarray``, ``scalar``, ``string``, ``None``, ``Dict``, ...
      are_indices: for every key, whether it is an index in a list.
    """

    keys: tuple[str, ...]
    kind: str
    are_indices: tuple[bool, ...]


class StoredLeaf(NamedTuple):
    """An array as the checkpoint describes it.

    Attributes:
      shape: its shape.
      dtype: its dtype.
      chunk: the shape of its chunks.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    chunk: tuple[int, ...] | None = None


class ItemMetadata(NamedTuple):
    """A tree without its arrays.

    Attributes:
      tree: nested dictionaries and lists; leaves are ``StoredLeaf``, None, or the kind of any other leaf as text.
      custom_metadata: what the writer recorded beside the tree; None if nothing was.
    """

    tree: Any
    custom_metadata: Any


def tree_entries(folder: Path) -> list[TreeEntry]:
    """Return all leaves of an orbax tree, empty nodes too.

    Raises:
      CheckpointError: its metadata cannot be read.
    """
    try:
        return _entries(read_tree_metadata(folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if foreign := what_it_is(folder / METADATA_FILE):
            raise CheckpointError(f"{folder / METADATA_FILE}: expected metadata of orbax, found {foreign}") from error
        raise CheckpointError(
            f"{folder / METADATA_FILE}: is no metadata of orbax ({error!r:.120}); get the checkpoint again"
        ) from error


def item_metadata(folder: Path) -> ItemMetadata:
    """Return the tree with the shape and dtype of every array, and what was recorded beside it.

    Raises:
      Exception: the metadata are damaged, or tensorstore cannot open an array.
    """
    metadata = read_tree_metadata(folder)
    entries = _without_placeholders(_entries(metadata))
    # One context: the arrays share a cache of the store's own nodes.
    context, resolved = ts.Context(), folder.resolve()
    arrays = [entry for entry in entries if entry.kind in _ARRAYS]
    opening = [ts.open(array_spec(resolved, entry.keys, metadata), open=True, context=context) for entry in arrays]
    opened = {entry.keys: _leaf_of(future.result()) for entry, future in zip(arrays, opening, strict=True)}
    leaves = {entry: opened.get(entry.keys, _EMPTY.get(entry.kind, entry.kind)) for entry in entries}
    return ItemMetadata(_nested(leaves), metadata.get("custom_metadata"))


@contextmanager
def naming_damage(folder: Path) -> Iterator[None]:
    """Turn whatever reading a checkpoint raises into a ``CheckpointError`` that names its folder."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # tensorstore raises all kinds
        raise CheckpointError(f"{folder}: the checkpoint is damaged or incomplete ({brief(error)})") from error


def brief(error: Exception) -> str:
    """Return the message of tensorstore's error without the kilobytes of the spec that it appends."""
    return str(error).partition(" [tensorstore_spec=")[0].partition(". See full TensorStore details")[0]


def _entries(metadata: Mapping[str, Any]) -> list[TreeEntry]:
    return [
        TreeEntry(
            tuple(str(part["key"]) for part in entry["key_metadata"]),
            str(entry["value_metadata"]["value_type"]),
            tuple(part.get("key_type") == _INDEX for part in entry["key_metadata"]),
        )
        for entry in metadata["tree_metadata"].values()
    ]


def _without_placeholders(entries: list[TreeEntry]) -> list[TreeEntry]:
    """Return the entries sorted, without those that others lie below: a save in parts leaves them behind."""
    ordered = sorted(entries, key=lambda entry: entry.keys)
    following = [*ordered[1:], None]
    return [
        entry
        for entry, after in zip(ordered, following, strict=True)
        if after is None or len(after.keys) == len(entry.keys) or after.keys[: len(entry.keys)] != entry.keys
    ]


def _leaf_of(store: Any) -> StoredLeaf:
    chunk = store.chunk_layout.read_chunk.shape
    return StoredLeaf(tuple(store.shape), store.dtype.numpy_dtype, None if chunk is None else tuple(chunk))


def _nested(leaves: Mapping[TreeEntry, Any]) -> Any:
    """Return leaves, sorted by their keys, as nested dictionaries and lists."""
    if len(leaves) == 1 and not next(iter(leaves)).keys:
        return next(iter(leaves.values()))
    children: dict[str, dict[TreeEntry, Any]] = {}
    is_list = bool(leaves) and next(iter(leaves)).are_indices[0]
    for entry, leaf in leaves.items():
        below = entry._replace(keys=entry.keys[1:], are_indices=entry.are_indices[1:])
        children.setdefault(entry.keys[0], {})[below] = leaf
    if is_list:
        return [_nested(children[index]) for index in sorted(children, key=int)]
    return {key: _nested(below) for key, below in children.items()}
