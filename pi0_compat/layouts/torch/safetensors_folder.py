"""Read the tensors of one safetensors file, or of the shards of a folder with an index, as one source.

A folder is as transformers writes it: ``model.safetensors``, or shards and ``model.safetensors.index.json`` whose
``weight_map`` names the shard of every tensor. A shard is a file name: a name that is a path is rejected, so nothing
outside of the folder is opened. A shard may be a symbolic link, as all files of Hugging Face's cache are.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.torch.safetensors_file import MAX_HEADER_BYTES, SafetensorsFile, open_safetensors
from pi0_compat.params import Leaf
from pi0_compat.storage.foreign import what_it_is
from pi0_compat.storage.stream import Source
from pi0_compat.text import shorten

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
INDEX = "model.safetensors.index.json"


class Shards(Source):
    """The tensors of all shards of a folder, under their own names.

    Attributes:
      path: the index.
      leaves: name -> shape and dtype of every tensor.
    """

    def __init__(self, path: Path, shards: dict[str, SafetensorsFile], weight_map: dict[str, str]) -> None:
        self.path = path
        self._owner = {name: shards[file] for name, file in weight_map.items()}
        _require_agreement(path, shards, weight_map)
        self.leaves: dict[str, Leaf] = {name: self._owner[name].leaves[name] for name in sorted(weight_map)}

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """Return a tensor as a read-only view of its shard, or cast."""
        return self._owner[path].read(path, dtype)

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a tensor as views of its shard."""
        return self._owner[path].slabs(path)


@contextmanager
def open_tensors(path: Path) -> Iterator[Source]:
    """Open a safetensors file, an index, or a folder that has exactly one of them.

    Raises:
      CheckpointError: there is none, or more than one; a file is damaged; index and shards do not agree.
    """
    file = _entry(path) if path.is_dir() else path
    with ExitStack() as stack:
        if file.name.endswith(".json"):
            weight_map = _weight_map(file)
            names = sorted(set(weight_map.values()))
            shards = {name: stack.enter_context(open_safetensors(file.parent / name)) for name in names}
            yield Shards(file, shards, weight_map)
        else:
            yield stack.enter_context(open_safetensors(file))


def _entry(folder: Path) -> Path:
    """Return the file of a folder to start from."""
    found = [folder / name for name in (WEIGHTS_FILE, INDEX) if (folder / name).is_file()]
    if len(found) == 1:
        return found[0]
    # transformers leaves an old index behind when it saves a single file: one that names no shard here is not meant.
    if found and not any((folder / shard).is_file() for shard in set(_weight_map(found[1]).values())):
        return found[0]
    if found:
        raise CheckpointError(
            f"{folder}: has {WEIGHTS_FILE} and {INDEX}, and only one can be meant; {_which_is_stale(folder)}"
        )
    listing = ", ".join(sorted(file.name for file in folder.iterdir())[:5]) or "nothing"
    raise CheckpointError(
        f"{folder}: expected {WEIGHTS_FILE} or {INDEX}, found {listing}; PyTorch's .bin files are pickles and are "
        "never loaded, convert them to safetensors"
    )


def _which_is_stale(folder: Path) -> str:
    """Say which of the two is left over from another save, if files show it."""
    lacking = sorted(name for name in set(_weight_map(folder / INDEX).values()) if not (folder / name).is_file())
    if lacking:
        return f"the index is left over, since {lacking[0]} of it is not there: remove it, or name {WEIGHTS_FILE}"
    return "name the file"


def _weight_map(index: Path) -> dict[str, str]:
    """Return the shard of every tensor, from the index."""
    if not index.is_file() or index.stat().st_size > MAX_HEADER_BYTES:
        raise CheckpointError(f"{index}: expected the index of a sharded checkpoint; get the file again")
    try:
        weight_map = json.loads(index.read_bytes(), object_pairs_hook=_unique)["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if foreign := what_it_is(index):
            raise CheckpointError(f"{index}: expected the index of a sharded checkpoint, found {foreign}") from error
        raise CheckpointError(f"{index}: is no index of shards ({error!r:.200}); get the file again") from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map is {weight_map!r:.80}; expected shards by tensor")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not _is_plain(file):
            raise CheckpointError(
                f"{index}: {name} is said to be in {file!r:.200}; a shard is a file of the folder itself, nothing else "
                "is opened"
            )
    return weight_map


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
        raise ValueError(f"{twice[0]} is there twice")
    return found


def _is_plain(name: str) -> bool:
    """Return whether the name is a single path component on every system."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def _require_agreement(path: Path, shards: dict[str, SafetensorsFile], weight_map: dict[str, str]) -> None:
    """Require that every tensor is in the shard that the index names, and in no other."""
    placed = {(name, file) for file, shard in shards.items() for name in shard.leaves}
    promised = set(weight_map.items())
    lines = [f"  - {name}: expected in {file}, found nothing" for name, file in sorted(promised - placed)]
    lines += [f"  + {name}: found in {file}, the index does not say so" for name, file in sorted(placed - promised)]
    if lines:
        raise CheckpointError(
            f"{path}: index and shards do not agree; get the files again\n" + "\n".join(shorten(lines))
        )


def tensors_of(path: Path) -> dict[str, Leaf]:
    """Return the shape and dtype of every tensor of a safetensors file or folder, by name.

    Raises:
      CheckpointError: there is no such file or folder, or a damaged one.
    """
    with open_tensors(path) as tensors:
        return dict(tensors.leaves)


def recorded_beside(path: Path) -> dict[str, Any]:
    """Return the ``config.json`` of a PyTorch checkpoint; empty if there is none or it cannot be read."""
    file = (path if path.is_dir() else path.parent) / CONFIG_FILE
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
