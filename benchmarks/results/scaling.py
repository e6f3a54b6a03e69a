"""What several devices make of the training step that one was measured with: each has as many samples as that one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.results.summaries import median

Json = Mapping[str, Any]


class Scaling(NamedTuple):
    """A step over some devices.

    Attributes:
      step: what it is a step of: operation and adapters.
      devices: how many.
      placement: ``alone``; ``data``, a copy of the state each; ``fsdp``, a part of the state each.
      rate: samples a second.
      efficiency: of what as many devices would do if each did what one does alone; None where that is not known.
    """

    step: str
    devices: int
    placement: str
    rate: float
    efficiency: float | None


def scaling(cells: Sequence[Json]) -> list[Scaling]:
    """The steps of one subject over several devices, each after the one that it is compared with.

    Args:
      cells: measured steps of a size, of one subject.
    """
    rows: dict[str, list[Scaling]] = {}
    for cell in cells:
        if _devices(cell) == 1 or not cell["options"].get("batch"):
            continue
        alone = next((other for other in cells if _is_alone(other, cell)), None)
        group = rows.setdefault(_step(cell), [_row(alone, alone)] if alone else [])
        group.append(_row(cell, alone))
    return [row for group in rows.values() for row in group]


def _row(cell: Json, alone: Json | None) -> Scaling:
    devices, rate = _devices(cell), _rate(cell)
    efficiency = rate / (devices * _rate(alone)) if alone else None
    return Scaling(_step(cell), devices, _placement(cell), rate, efficiency)


def _is_alone(other: Json, cell: Json) -> bool:
    """Whether it is the same step on one device, with as many samples as each of the cell's devices has."""
    expected = cell["options"] | {"devices": 1, "spread": False, "batch": cell["options"]["batch"] // _devices(cell)}
    return bool(other["operation"] == cell["operation"] and other["options"] == expected)


def _devices(cell: Json) -> int:
    return int(cell["options"].get("devices") or 1)


def _placement(cell: Json) -> str:
    if _devices(cell) == 1:
        return "alone"
    return "fsdp" if cell["options"].get("spread") else "data"


def _rate(cell: Json) -> float:
    return float(cell["options"]["batch"] / median([sample["wall_s"] for sample in cell["samples"]]))


def _step(cell: Json) -> str:
    return f"{cell['operation']}/{'lora' if cell['options'].get('lora') else 'full'}"
