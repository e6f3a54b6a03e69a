"""The devices that a plan is made for, from ``devices.toml``: memory, and peaks by their datasheets, with sources."""

import difflib
import os
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

_TABLE = Path(__file__).with_name("devices.toml")
_GIB = 2**30
# What a program can have of a device's memory; the driver, the allocator's gaps and compiled code take the rest.
USABLE = 0.95
HOST = "this machine"


class Device(NamedTuple):
    """A device, as jax sees it.

    Attributes:
      name: jax's name for it; ``this machine`` for the CPU here.
      memory_bytes: its memory.
      bf16_flops: FLOP/s of dense products in bfloat16; None where no datasheet says so.
      bytes_per_s: memory bandwidth; None where no datasheet says so.
      source: the source of the figures.
      checked: the date of the last comparison with the source.
    """

    name: str
    memory_bytes: int
    bf16_flops: float | None
    bytes_per_s: float | None
    source: str
    checked: str

    @property
    def usable_bytes(self) -> int:
        """What a program may take."""
        return int(USABLE * self.memory_bytes)


@cache
def devices() -> tuple[Device, ...]:
    """Return all devices of the table by memory, the smallest first, and this machine last."""
    with _TABLE.open("rb") as file:
        entries = tomllib.load(file)["device"]
    known = [
        Device(
            entry["kinds"][0],
            int(entry["memory_gb"] * _GIB),
            entry["bf16_tflops"] * 1e12,
            entry["memory_gbs"] * 1e9,
            entry["source"],
            str(entry["checked"]),
        )
        for entry in entries
    ]
    by_memory = sorted(known, key=lambda each: (each.memory_bytes, each.name))
    return (*by_memory, *((this_machine(),) if host_memory() else ()))


def device(kind: str) -> Device:
    """Return the device of that name, in any case; a part of the name will do where only one device has it.

    Raises:
      ValueError: no device has this name, or several do; the message has the closest.
    """
    wanted = kind.casefold()
    exact = [each for each in devices() if each.name.casefold() == wanted]
    found = exact or [each for each in devices() if wanted in each.name.casefold()]
    if len(found) == 1:
        return found[0]
    names = [each.name for each in found or devices()]
    if found:
        raise ValueError(f"device {kind!r} may be {', '.join(names)}; name one")
    closest = difflib.get_close_matches(kind, names, n=3, cutoff=0.3) or names
    raise ValueError(f"no device {kind!r} in the table; the closest names are {', '.join(closest)}")


def this_machine() -> Device:
    """Return the CPU of this machine: its memory, and no peaks, as no datasheet states them for the cores given."""
    return Device(HOST, host_memory() or 0, None, None, "the system", "")


def host_memory() -> int | None:
    """Return the bytes of this machine's memory; None if the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
