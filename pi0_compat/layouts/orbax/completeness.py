"""Check that all files of an orbax checkpoint are present: names and lengths are compared with the metadata.

No array is read, so a lost, short or unfinished file is found, and a flipped bit is not (digests find it).
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorstore as ts

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.address import array_prefix
from pi0_compat.layouts.orbax.chunks import located, places
from pi0_compat.layouts.orbax.folder import METADATA_FILE
from pi0_compat.layouts.orbax.item import tree_entries
from pi0_compat.storage.foreign import sent_instead

_MANIFEST = "manifest.ocdbt"
# Files that are looked at to say why a store cannot be opened.
_NODES = 100
# Of zarr 2, and of zarr 3.
_ARRAY_METADATA = (".zarray", "zarr.json")
# Other leaves of a tree, such as empty nodes, are stored in another way or not at all.
_ARRAY_KINDS = ("jax.Array", "np.ndarray")
# How rsync, gsutil and orbax name what they leave behind when they are killed.
_LEFTOVERS = (".orbax-checkpoint-tmp", "_.gstmp", ".gstmp", ".partial", ".incomplete")


def what_is_missing(folder: Path) -> list[str]:
    """Return a line for every array that is incomplete; none if the checkpoint is complete.

    Raises:
      CheckpointError: the metadata, or the table of the arrays, cannot be read, or another save's arrays are there.
    """
    return [line for array in _arrays(folder) for line in _problems(array)]


def require_open(folder: Path) -> None:
    """Reject a checkpoint whose arrays cannot be found.

    Raises:
      CheckpointError: as ``what_is_missing``.
    """
    _arrays(folder)


def leftovers(folder: Path) -> list[str]:
    """Return the files that an interrupted save or copy left behind, relative to the folder. They are harmless."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.name.endswith(_LEFTOVERS))


class _Array(NamedTuple):
    """One array in the store.

    Attributes:
      chunks: the names of all chunks that it should have.
      lost: the number of missing chunks; 0 where the writer leaves out chunks of zeros.
      problems: what is wrong with the chunks that are present, in words.
    """

    name: str
    chunks: list[str]
    lost: int
    problems: list[str]


def _arrays(folder: Path) -> list[_Array]:
    """Return all arrays that the metadata list."""
    names = [".".join(entry.keys) for entry in tree_entries(folder) if entry.kind in _ARRAY_KINDS]
    found = _in_store(folder.resolve(), names) if (folder / _MANIFEST).is_file() else _in_folders(folder, names)
    if lost := sorted(set(names) - {array.name for array in found}):
        raise CheckpointError(
            f"{folder}: damaged: {len(lost)} of {len(names)} arrays in {METADATA_FILE} are not stored here, for "
            f"example {lost[0]}; get the checkpoint again"
        )
    return found


def _in_store(folder: Path, names: list[str]) -> list[_Array]:
    """Return the arrays of one store (OCDBT), which knows the place of every chunk."""
    store, keys = _open(folder)
    known = places(folder)
    absent_is_zero = not json.loads((folder / METADATA_FILE).read_text()).get("store_array_data_equal_to_fill_value")
    arrays = []
    for name in names:
        prefix = array_prefix(name)
        metadata = next((key for file in _ARRAY_METADATA if (key := f"{prefix}{file}".encode()) in keys), None)
        if metadata is None:
            continue
        chunks = [f"{prefix}{chunk}" for chunk in _chunks(json.loads(store[metadata]))]
        lost = 0 if absent_is_zero else sum(chunk.encode() not in keys for chunk in chunks)
        at = [known[chunk.encode()] for chunk in chunks if chunk.encode() in known]
        arrays.append(_Array(name, chunks, lost, [problem for place in at if (problem := _short(folder, place))]))
    return arrays


def _in_folders(folder: Path, names: list[str]) -> list[_Array]:
    """Return arrays that have a folder each, with a file for every chunk."""
    arrays = []
    for name in names:
        metadata = next((file for kind in _ARRAY_METADATA if (file := folder / name / kind).is_file()), None)
        if metadata is None:
            continue
        chunks = [folder / name / chunk for chunk in _chunks(json.loads(metadata.read_text()))]
        there = [chunk for chunk in chunks if chunk.is_file()]
        empty = [f"{chunk.name} is empty" for chunk in there if not chunk.stat().st_size]
        arrays.append(_Array(name, [chunk.name for chunk in chunks], len(chunks) - len(there), empty))
    return arrays


def _open(folder: Path) -> tuple[Any, set[bytes]]:
    """Return an open OCDBT store and all of its keys."""
    try:
        store = ts.KvStore.open({"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}).result()
        return store, set(store.list().result())
    except Exception as error:  # tensorstore raises all kinds
        for file in (folder / _MANIFEST, *sorted(folder.glob("d/*"))[:_NODES]):
            if foreign := sent_instead(file):
                raise CheckpointError(f"{file}: expected the table of the arrays, found {foreign}") from error
        why = str(error).partition(" [source")[0]
        raise CheckpointError(
            f"{folder}: damaged: the table of its arrays cannot be read ({why}); get the checkpoint again"
        ) from error


def _problems(array: _Array) -> list[str]:
    words = [f"{array.lost} of {len(array.chunks)} pieces are missing"] if array.lost else []
    words += array.problems[:1]
    return [f"{array.name}: {'; '.join(words)}"] if words else []


def _short(folder: Path, place: str) -> str | None:
    """Return what is wrong with the place of a chunk; None if nothing is."""
    file, offset, length = located(folder, place)
    name = file.relative_to(folder)
    if not file.is_file():
        return f"file {name} is missing"
    size = file.stat().st_size
    if size >= offset + length:
        return None
    if foreign := sent_instead(file):
        return f"file {name} is {foreign}"
    return f"file {name} has {size} bytes, and should have {offset + length} at least"


def _chunks(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of an array's chunks, in zarr 2 or 3; a scalar has one, an array without values none."""
    if metadata["zarr_format"] == 2:
        sides, prefix, separator = metadata["chunks"], "", metadata.get("dimension_separator", ".")
    else:
        sides, prefix, separator = metadata["chunk_grid"]["configuration"]["chunk_shape"], "c", "/"
    counts = [math.ceil(length / max(1, side)) for length, side in zip(metadata["shape"], sides, strict=True)]
    for chunk in itertools.product(*map(range, counts)):
        numbers = separator.join(map(str, chunk))
        yield separator.join(filter(None, (prefix, numbers))) or "0"
