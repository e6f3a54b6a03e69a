"""Peak throughput of devices by their datasheets, from the library's table; a device that is not listed has no peak.

MFU is a model's FLOP/s over the peak. There is no default: another device's peak would give a plausible wrong number.
"""

import dataclasses
import datetime as dt
import functools
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# One table for all: the library plans with it.
TABLE = Path(__file__).parents[2] / "pi0_compat" / "planning" / "devices.toml"
GIB = 2**30
# jax may report its allocator's limit (three quarters of a GPU) instead of the total.
_LEAST_SHARE, _MOST_SHARE = 0.7, 1.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peak:
    """The datasheet figures of one device.

    Attributes:
      kinds: jax's names for it (``device_kind``).
      bf16_tflops: dense bfloat16 matrix products, TFLOP/s.
      memory_gbs: memory bandwidth, GB/s (10^9 bytes per second).
      memory_gb: memory, GiB.
      source: the source of the figures.
      checked: the date of the last comparison with the source.
    """

    kinds: tuple[str, ...]
    bf16_tflops: float
    memory_gbs: float
    memory_gb: float
    source: str
    checked: dt.date

    def has_memory(self, size: int) -> bool:
        """Whether a device that reports ``size`` bytes of memory can be this one."""
        return _LEAST_SHARE <= size / (self.memory_gb * GIB) <= _MOST_SHARE


def peak_of(kind: str, memory_bytes: int | None = None) -> Peak | None:
    """Return a device's peak; None if the device is unknown, a CPU, or ambiguous.

    Args:
      kind: ``jax.Device.device_kind``; must equal a name in the table.
      memory_bytes: memory that the device has or lets jax use; the same name with other memory is another device.
    """
    named = [peak for peak in peaks() if kind in peak.kinds]
    fitting = [peak for peak in named if memory_bytes is None or peak.has_memory(memory_bytes)]
    return fitting[0] if len(fitting) == 1 else None


@functools.cache
def peaks(table: Path = TABLE) -> tuple[Peak, ...]:
    """Return all devices of the table.

    Raises:
      ValueError: an entry has a missing, unknown or non-positive figure.
    """
    with table.open("rb") as file:
        entries = tomllib.load(file)["device"]
    return tuple(_parsed(entry, table) for entry in entries)


def _parsed(entry: dict[str, Any], table: Path) -> Peak:
    name = f"{table.name}: {entry.get('kinds')}"
    expected = {field.name for field in dataclasses.fields(Peak)}
    if wrong := expected ^ set(entry):
        raise ValueError(f"{name}: missing or unknown keys {sorted(wrong)}; expected {sorted(expected)}")
    if wrong := set(_not_positive(entry.items())):
        raise ValueError(f"{name}: {sorted(wrong)} must be positive numbers")
    return Peak(**(entry | {"kinds": tuple(entry["kinds"])}))


def _not_positive(entries: Iterable[tuple[str, Any]]) -> Iterable[str]:
    for key, value in entries:
        if key in ("bf16_tflops", "memory_gbs", "memory_gb") and not (isinstance(value, int | float) and value > 0):
            yield key
