"""What a device can do by its maker's data sheet, from ``peaks.toml``; a device that is not in there has no peak.

A model's FLOPs over the peak is its MFU. There is no default: a peak of another device makes a wrong number that looks
like a right one.
"""

import dataclasses
import datetime as dt
import functools
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("peaks.toml")
GIB = 2**30
# jax may report what its allocator may take (three quarters of a GPU) in place of the whole.
_LEAST_SHARE, _MOST_SHARE = 0.7, 1.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peak:
    """One device.

    Attributes:
      kinds: the names that jax has for it (``device_kind``).
      bf16_tflops: dense bfloat16 products, TFLOP/s.
      memory_gbs: memory bandwidth, 10^9 bytes a second.
      memory_gb: memory, GiB.
      source: where the figures stand.
      checked: when they were last compared with it.
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
    """The peak of a device; None where it is unknown, a CPU, or more than one device could be meant.

    Args:
      kind: ``jax.Device.device_kind``, which has to be equal to a name in the table.
      memory_bytes: what the device has or lets jax use; the right name with another memory is another device.
    """
    named = [peak for peak in peaks() if kind in peak.kinds]
    found = [peak for peak in named if memory_bytes is None or peak.has_memory(memory_bytes)]
    return found[0] if len(found) == 1 else None


@functools.cache
def peaks(table: Path = TABLE) -> tuple[Peak, ...]:
    """All devices of the table.

    Raises:
      ValueError: an entry lacks a figure, has one too many, or one that is not positive.
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
