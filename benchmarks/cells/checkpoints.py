"""The checkpoints that cells read: each is created once and kept in a folder."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cells.cells import Cell
from benchmarks.cells.sizes import Size
from fixtures.specs import Family
from fixtures.streamed import checkpoints as streamed

# The dtypes in which Google, Hugging Face and openpi publish them.
_DTYPE = "float32"


class Checkpoint(NamedTuple):
    """A checkpoint's path and manifest."""

    path: Path
    manifest: streamed.Manifest

    @property
    def fixture(self) -> dict[str, Any]:
        """The checkpoint's entry in a result file."""
        leaves = self.manifest["leaves"]
        return {
            "id": self.id,
            "layout": self.manifest["layout"],
            "dtype": self.manifest["dtype"],
            "bytes": self.manifest["bytes"],
            "params": self.manifest["params"],
            "leaves": len(leaves),
            "sha256": hashlib.sha256(json.dumps(leaves, sort_keys=True).encode()).hexdigest(),
        }

    @property
    def id(self) -> str:
        """A name that is equal wherever the same checkpoint is created."""
        return "/".join(self.path.parts[-2:])


def checkpoint_of(cell: Cell, folder: Path, progress: Callable[[int, int], None] | None = None) -> Checkpoint:
    """Return the checkpoint of a cell; create it if it does not exist."""
    layout: streamed.Layout = cell.layout  # type: ignore[assignment]
    return create_checkpoint(cell.size, layout, folder, adapted=cell.adapted, family=cell.family, progress=progress)


def create_checkpoint(
    size: Size,
    layout: streamed.Layout,
    folder: Path,
    *,
    adapted: bool,
    family: Family = "pi0",
    progress: Callable[[int, int], None] | None = None,
) -> Checkpoint:
    """Return the checkpoint of a size and family in a layout; create it if it does not exist."""
    # Adapters are part of the checkpoint; the dtype that the model computes in is not.
    base = size.spec(family)
    spec = base if not adapted else {**size.model(lora=True, family=family), "dtype": base["dtype"]}
    path = streamed.build(spec, layout, folder / size.name, dtype=_DTYPE, progress=progress)
    return Checkpoint(path, streamed.read_manifest(path))
