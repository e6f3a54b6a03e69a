"""Weak scaling of training steps: several devices against one, with the same batch per device."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.results.summaries import median

Json = Mapping[str, Any]


class Scaling(NamedTuple):
    """A training step on several devices.

    Attributes:
      step: operation, and whether the model has adapters.
      devices: number of devices.
      placement: ``alone``; ``data``, the state replicated; ``fsdp``, the state sharded.
      rate: samples per second.
      efficiency: ``rate`` over ``devices`` times the rate of one device; None if that was not measured.
    """

    step: str
    devices: int
    placement: str
    rate: float
    efficiency: float | None


def scaling(cells: Sequence[Json]) -> list[Scaling]:
    """Return the steps of one subject on several devices, each after its single-device baseline.

    Args:
      cells: measured steps of one size and one subject.
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
    """Whether ``other`` is the same step on one device, with the batch that each of the cell's devices has."""
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
