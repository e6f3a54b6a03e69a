"""The cells of the gate: warm loads, adapter operations, a LoRA step and sampling of a small model."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cells.cells import Cell, cells_of
from benchmarks.cells.sizes import Size
from benchmarks.measure.process import ROOT
from fixtures import specs

# Long loads of large checkpoints vary by half on shared machines; a cell of this size takes a tenth of a second.
_SIZE = Size("mini", specs.mini, "float32", (1,), passes=1, steps=1)


def cells(only: Sequence[str] = ()) -> list[Cell]:
    """Return the gate's cells whose id contains one of the texts ``only``; all cells if it is empty."""
    wanted = [cell for cell in cells_of(_SIZE) if cell.lora or cell.workload != "step"]
    return [cell for cell in wanted if not only or any(text in cell.id for text in only)]


def cells_known_to(tree: Path) -> list[str] | None:
    """Return the ids of the gate's cells in another checkout of this project; None if it has no gate."""
    if not (tree / "benchmarks" / "gate").is_dir():
        return None
    if tree.samefile(ROOT):
        return [cell.id for cell in cells()]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gate", "--list"], cwd=tree, capture_output=True, text=True, check=True
    )
    return done.stdout.split()
