"""The checkpoint that a cell reads: made once, kept in a folder."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cells.cells import Cell
from benchmarks.cells.sizes import Size
from fixtures.streamed import checkpoints as streamed

# Stored as Google, Hugging Face and openpi publish them.
_DTYPE = "float32"


class Checkpoint(NamedTuple):
    """Where it is, and what is in it."""

    path: Path
    manifest: streamed.Manifest

    @property
    def fixture(self) -> dict[str, Any]:
        """The entry of a result file."""
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
        """A name that is the same wherever the same checkpoint is made."""
        return "/".join(self.path.parts[-2:])


def checkpoint_of(cell: Cell, folder: Path, progress: Callable[[int, int], None] | None = None) -> Checkpoint:
    """The checkpoint of a cell; it is made if it is not there."""
    return made(cell.size, cell.layout, folder, adapted=cell.adapted, progress=progress)  # type: ignore[arg-type]


def made(
    size: Size,
    layout: streamed.Layout,
    folder: Path,
    *,
    adapted: bool,
    progress: Callable[[int, int], None] | None = None,
) -> Checkpoint:
    """The checkpoint of a size in a layout; it is made if it is not there."""
    # The adapters are part of the checkpoint, the dtype that the model computes in is not.
    spec = size.spec() if not adapted else {**size.model(lora=True), "dtype": size.spec()["dtype"]}
    path = streamed.build(spec, layout, folder / size.name, dtype=_DTYPE, progress=progress)
    return Checkpoint(path, streamed.read_manifest(path))
