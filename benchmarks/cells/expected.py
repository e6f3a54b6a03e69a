"""The expected result of an operation, derived from what the checkpoint's factory wrote, not from any loader."""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import numpy as np

from benchmarks.cells.cells import Cell
from benchmarks.cells.flops import trainable_paths
from benchmarks.cells.products import is_lora
from fixtures.writers import openpi_layout

# Dtype, shape, and the sha256 of the values (None where an implementation may choose the values).
Expected: TypeAlias = dict[str, tuple[str, list[int], str | None]]
Manifest: TypeAlias = Mapping[str, Any]


def expected(cell: Cell, manifest: Manifest) -> Expected:
    """Return the leaves that the operation of a cell must produce.

    Values are free for parameters that the checkpoint lacks and for weights that folding changes.
    """
    shapes = openpi_layout.shapes(cell.model)
    if cell.operation == "fold":
        shapes = {path: shape for path, shape in shapes.items() if not is_lora(path)}
    if cell.operation in ("initialize", "extract"):
        shapes = {path: shape for path, shape in shapes.items() if is_lora(path)}
    asked, frozen = "float32" if cell.workload != "load" else cell.dtype, _frozen(cell, shapes)
    return {
        path: _leaf(cell, path, "bfloat16" if path in frozen else asked, list(shape), manifest["leaves"])
        for path, shape in shapes.items()
    }


def comparison(wanted: Expected, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the expected and the actual digest over the same leaves, and every leaf that differs."""
    known = {path: _as_free(leaf, found.get(path)) for path, leaf in wanted.items()}
    differing = [
        f"{path}: expected {_text(known.get(path))}, found {_text(found.get(path))}"
        for path in sorted(known.keys() | found.keys())
        if list(known.get(path, ())) != list(found.get(path, ()))
    ]
    return {"expected": _digest(known), "found": _digest(found), "differing": differing}


def _as_free(leaf: tuple[str, list[int], str | None], found: Any) -> tuple[str, list[int], str | None]:
    """Return the expected leaf, with the actual values where they are free."""
    return (*leaf[:2], found[2]) if leaf[2] is None and found else leaf


def _leaf(
    cell: Cell, path: str, dtype: str, shape: list[int], leaves: Mapping[str, Any]
) -> tuple[str, list[int], str | None]:
    if cell.operation == "initialize" and path.endswith("lora_b"):
        return dtype, shape, hashlib.sha256(np.zeros(shape, dtype).tobytes()).hexdigest()
    known = leaves.get(path)
    changed = cell.operation == "fold" and _is_adapted(path)
    return dtype, shape, None if known is None or changed else known["sha256"][dtype]


def _frozen(cell: Cell, paths: Collection[str]) -> set[str]:
    """Return the paths that a train state keeps in bfloat16: the weights that LoRA freezes."""
    return set(paths) - trainable_paths(cell.model) if cell.operation.endswith("_state") else set()


def _is_adapted(path: str) -> bool:
    return "/attn/" in path or "/mlp/" in path or "/mlp_1/" in path


def _digest(leaves: Mapping[str, Any]) -> str:
    text = json.dumps({path: list(leaf) for path, leaf in leaves.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _text(leaf: Any) -> str:
    if not leaf:
        return "nothing"
    dtype, shape, sha = leaf
    return f"{dtype}{shape} {str(sha)[:12]}"
