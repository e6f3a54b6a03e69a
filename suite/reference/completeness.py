"""Whether all files of an orbax checkpoint are there: what the metadata promise is compared with names and lengths.

No array is read, so a flipped bit is not found here (digests find it); a lost, short or unfinished file is.
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorstore as ts

from suite.reference.chunk_files import located, places
from suite.reference.errors import CheckpointError
from suite.reference.finding import METADATA_FILE
from suite.reference.layouts.recognition import tree_keys

_MANIFEST = "manifest.ocdbt"
_ARRAY_METADATA = ".zarray"
# Of a killed copy: what rsync, gsutil and orbax leave beside what is whole.
_LEFTOVERS = (".orbax-checkpoint-tmp", "_.gstmp", ".gstmp", ".partial", ".incomplete")


def what_is_missing(folder: Path) -> list[str]:
    """A line for every array that is not whole, and for every leftover of an interrupted copy; none if all is there.

    Raises:
      CheckpointError: the metadata, or the table of the arrays, cannot be read.
    """
    leftovers = sorted(file.name for file in folder.rglob("*") if file.name.endswith(_LEFTOVERS))
    lines = [f"{name}: left behind by a save or a copy that did not end" for name in leftovers]
    keys = [".".join(parts) for parts in tree_keys(folder)]
    if (folder / _MANIFEST).is_file():
        return lines + _missing_in_store(folder.resolve(), keys)
    return lines + [line for key in keys if (folder / key).is_dir() for line in _missing_in_folder(folder / key)]


def require_open(folder: Path) -> None:
    """Refuse an OCDBT store whose tree cannot be read, before orbax reads on after the first error, and complains.

    Raises:
      CheckpointError: it cannot be read.
    """
    if (folder / _MANIFEST).is_file():
        _open(folder.resolve())


def _open(folder: Path) -> tuple[Any, set[bytes]]:
    """An OCDBT store, and the names of all that is in it."""
    try:
        store = ts.KvStore.open({"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}).result()
        return store, set(store.list().result())
    except Exception as error:  # tensorstore raises all kinds
        why = str(error).partition(" [source")[0]
        raise CheckpointError(
            f"{folder}: damaged: the table of its arrays cannot be read ({why}); get the checkpoint again"
        ) from error


def _missing_in_store(folder: Path, names: list[str]) -> list[str]:
    """OCDBT: the store tells the place of every chunk."""
    store, keys = _open(folder)
    known = places(folder)
    absent_is_zero = not _metadata(folder).get("store_array_data_equal_to_fill_value")
    lines = []
    for name in names:
        array = f"{name}/{_ARRAY_METADATA}".encode()
        # Zarr 3 and what is no array: told by orbax when it is read.
        if array not in keys:
            continue
        chunks = [f"{name}/{chunk}".encode() for chunk in _chunks(json.loads(store[array]))]
        lost = [] if absent_is_zero else [chunk for chunk in chunks if chunk not in keys]
        short = [problem for chunk in chunks if chunk in known and (problem := _short(folder, known[chunk]))]
        lines += _line(name, len(chunks), len(lost), short)
    return lines


def _missing_in_folder(array: Path) -> list[str]:
    """One folder an array: a file for every chunk."""
    metadata = array / _ARRAY_METADATA
    if not metadata.is_file():
        return [f"{array.name}: {_ARRAY_METADATA} is missing"]
    chunks = [array / chunk for chunk in _chunks(json.loads(metadata.read_text()))]
    lost = [chunk for chunk in chunks if not chunk.is_file()]
    empty = [f"{chunk.name} is empty" for chunk in chunks if chunk.is_file() and not chunk.stat().st_size]
    return _line(array.name, len(chunks), len(lost), empty)


def _line(name: str, chunks: int, lost: int, short: list[str]) -> list[str]:
    words = [f"{lost} of {chunks} pieces are missing"] if lost else []
    words += short[:1]
    return [f"{name}: {'; '.join(words)}"] if words else []


def _short(folder: Path, place: str) -> str | None:
    """What is wrong with the place of a chunk."""
    file, offset, length = located(folder, place)
    name = file.relative_to(folder)
    if not file.is_file():
        return f"file {name} is missing"
    size = file.stat().st_size
    return (
        f"file {name} has {size} bytes, and should have {offset + length} at least" if size < offset + length else None
    )


def _chunks(zarray: Mapping[str, Any]) -> Iterator[str]:
    """The names of an array's chunks; a scalar has one, an array without numbers none."""
    counts = [math.ceil(n / max(1, side)) for n, side in zip(zarray["shape"], zarray["chunks"], strict=True)]
    separator = zarray.get("dimension_separator", ".")
    for chunk in itertools.product(*map(range, counts)):
        yield separator.join(map(str, chunk)) or "0"


def _metadata(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / METADATA_FILE).read_text())
    return found
