"""Memory budgets of loads, independent of the baseline, and the recorded decisions about cells and metrics."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.cells.cells import Cell

_FILE = Path(__file__).with_name("budgets.toml")


@cache
def decided() -> Mapping[str, Any]:
    """Return the content of ``budgets.toml``."""
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


def host_budget(subject: str, cell: Cell, checkpoint_bytes: int) -> int | None:
    """Return the bytes by which a process that measures the cell may grow; None if there is no budget."""
    budget = decided()["host"].get(subject, {}).get(cell.operation)
    return None if budget is None else round(budget["times"] * checkpoint_bytes + budget["plus_mib"] * (1 << 20))


def retired() -> dict[str, str]:
    """Return the cells that were removed on purpose, with the reasons."""
    return {entry["cell"]: entry["reason"] for entry in decided().get("retired", [])}


def accepted() -> dict[tuple[str, str], str]:
    """Return the (cell, metric) pairs that may be worse than the baseline's, with the reasons."""
    return {(entry["cell"], entry["metric"]): entry["reason"] for entry in decided().get("accepted", [])}
