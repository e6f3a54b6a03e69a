"""``python -m benchmarks limits``: what this machine needs at least for each load and each command.

It measures reading, decoding, encoding, digesting, casting and writing on all cores, and adds up what each load and
command has to do with the bytes of a checkpoint, as ``benchmarks.results.limits`` says.
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cells.sizes import Size, sizes
from benchmarks.results.limits import Work, command_work, least_seconds, load_work
from benchmarks.running import device_facts
from fixtures.writers import openpi_layout

# Every command of ``benchmarks.commands`` that reads arrays.
COMMANDS = ("check --values", "fold", "convert", "diff", "extract", "attach")
# What zstd makes of the fixtures' values, and of trained ones.
_STORED_SHARE = 0.924
_ITEM_BYTES = 4


class Bytes(NamedTuple):
    """Bytes of the float32 values of a model: the base, its adapters, and the weights that have one."""

    base: int
    adapters: int
    folded: int


def main(arguments: Sequence[str]) -> int:
    """Measure this machine, print its rates and limits, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks limits", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--size", choices=sorted(sizes("cpu")), default="full")
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="on the disk to measure; a temporary file is written"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    ceilings = device_facts("cpu", options.folder)["ceilings"]
    found = {name: least_seconds(work, ceilings) for name, work in works(bytes_of(sizes("cpu")[options.size]))}
    if options.json:
        print(json.dumps({"ceilings": ceilings, "limits": found}, indent=2))
        return 0
    rates = ("read_warm", "read_cold", "decode", "encode", "digest", "cast", "write")
    for name in rates:
        rate = ceilings.get(f"{name}_gbs")
        print(f"{name.replace('_', ' '):24} {f'{rate:.2f} GB/s' if rate else 'not measured'}")
    for name, seconds in found.items():
        print(f"{name:24} {'unknown' if seconds is None else f'{seconds:.2f} s'}")
    return 0


def bytes_of(size: Size) -> Bytes:
    """Return the bytes of a size's values."""
    shapes = openpi_layout.shapes(size.model(lora=True))
    adapters = {path: shape for path, shape in shapes.items() if "lora_" in path}
    own = shapes.keys() - adapters.keys()
    adapted = {path for path in own if any(other.startswith(_module(path)) for other in adapters)}
    return Bytes(_size(shapes, own), _size(shapes, adapters), _size(shapes, adapted))


def works(model: Bytes) -> Iterator[tuple[str, Work]]:
    """Yield loads and commands with what each has to do."""
    stored = round(_STORED_SHARE * model.base)
    yield "restore to bfloat16", load_work(stored, model.base, model.base // 2)
    yield "restore", load_work(stored, model.base, model.base)
    with_adapters = round(_STORED_SHARE * (model.base + model.adapters))
    reads = {"check --values": stored, "convert": stored, "diff": stored + model.base}
    for name in COMMANDS:
        if work := command_work(name, reads.get(name, with_adapters), *model):
            yield name, work


def limit_of(command: str, stored: int, size: Size, ceilings: Mapping[str, Any]) -> float | None:
    """Return the least seconds of a command that reads ``stored`` bytes; None if it reads no array."""
    work = command_work(command, stored, *bytes_of(size))
    return work and least_seconds(work, ceilings)


def _module(path: str) -> str:
    """Return what the paths of a weight's adapter begin with."""
    return f"{path.removesuffix('/w')}/" if path.endswith("/w") else f"{path}_lora"


def _size(shapes: Mapping[str, Any], paths: Any) -> int:
    return sum(_ITEM_BYTES * math.prod(shapes[path]) for path in paths)
