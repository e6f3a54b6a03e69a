"""Where the arrays of an orbax checkpoint lie, as tensorstore addresses them."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorstore as ts

from pi0_compat.layouts.orbax.folder import METADATA_FILE

MANIFEST = "manifest.ocdbt"


def read_tree_metadata(folder: Path) -> dict[str, Any]:
    """Return the document that orbax keeps of a tree: the leaves and how their arrays are stored.

    Raises:
      OSError: there is no such file.
      ValueError: it is not a JSON object.
    """
    document = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"{METADATA_FILE} holds a {type(document).__name__}, expected an object")
    return document


def array_prefix(name: str) -> str:
    """Return what the keys of an array's chunks begin with: its dotted name and a slash, which is not doubled."""
    return name if name.endswith("/") else f"{name}/"


def array_spec(folder: Path, keys: Sequence[str], metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the tensorstore spec of an array, with files mapped into memory where tensorstore can.

    Args:
      folder: the checkpoint, with its symbolic links resolved.
      keys: the nested names under which the array is in the tree; orbax joins them by dots.
      metadata: as ``read_tree_metadata`` returns it.

    Raises:
      ValueError: the name leads out of the folder.
    """
    name = ".".join(keys)
    if ".." in name.split("/"):
        raise ValueError(f"the array {name!r} leads out of the folder")
    base = {"driver": "file", "path": f"{folder}/", **_mapped()}
    # Before orbax recorded it, only the manifest tells one store (OCDBT) from a folder for each array.
    in_one_store = metadata.get("use_ocdbt")
    if (folder / MANIFEST).is_file() if in_one_store is None else in_one_store:
        kvstore = {"driver": "ocdbt", "base": base, "path": array_prefix(name)}
    else:
        kvstore = base | {"path": f"{folder}/{array_prefix(name)}"}
    return {
        "driver": "zarr3" if metadata.get("use_zarr3") else "zarr",
        "kvstore": kvstore,
        # Where all chunks are written, a missing one is damage, not zeros.
        "fill_missing_data_reads": not metadata.get("store_array_data_equal_to_fill_value"),
        "recheck_cached_data": False,
        "recheck_cached_metadata": False,
    }


@functools.cache
def _mapped() -> dict[str, Any]:
    """Return the option that maps files instead of copying them; old versions of tensorstore lack it."""
    mapped = {"file_io_mode": {"mode": "memmap"}}
    try:
        ts.KvStore.Spec({"driver": "file", "path": "/", **mapped})
    except ValueError:
        return {}
    return mapped
