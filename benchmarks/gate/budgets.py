"""Budgets of memory: what a load may take at most, whatever the baseline took; and what was decided about cells."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.cells.cells import Cell

_FILE = Path(__file__).with_name("budgets.toml")


@cache
def decided() -> Mapping[str, Any]:
    """The content of ``budgets.toml``."""
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


def host_budget(subject: str, cell: Cell, checkpoint_bytes: int) -> int | None:
    """The bytes by which the process of a subject's cell may grow; None where none was decided."""
    budget = decided()["host"].get(subject, {}).get(cell.operation)
    return None if budget is None else round(budget["times"] * checkpoint_bytes + budget["plus_mib"] * (1 << 20))


def retired() -> dict[str, str]:
    """Cells that are gone on purpose, and why."""
    return {entry["cell"]: entry["reason"] for entry in decided().get("retired", [])}


def accepted() -> dict[tuple[str, str], str]:
    """Metrics of cells that may be worse than the baseline's, and why."""
    return {(entry["cell"], entry["metric"]): entry["reason"] for entry in decided().get("accepted", [])}
