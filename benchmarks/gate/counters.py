"""What a call does that can be counted: with the same code it is the same number, however busy the machine is.

It runs in the process of a subject. Counted are the programs that jax compiles, the bytes that are read or mapped, and
the memory that is allocated in large blocks; the latter by memray, where that is installed.
"""

import gc
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks.measure.measuring import bytes_read
from benchmarks.measure.stages import Stages

# Above this size a block counts: smaller ones depend on what was allocated before.
_LARGE = 1 << 20
# Of maps, those above this size that are no arena of Python's: what else is mapped is a file.
_SMALL_MAP, _ARENA = 1 << 16, 1 << 20
_ALLOCATING = ("MALLOC", "CALLOC", "REALLOC")


def compiled_by(call: Callable[[], Any], stages: Stages) -> tuple[Any, int]:
    """What a call gives once it is there, and how many programs it had compiled."""
    before = stages.programs
    return jax.block_until_ready(call()), stages.programs - before


def held_by(call: Callable[[], Any]) -> int:
    """The bytes of the jax arrays that a call leaves behind."""
    before = _live()
    result = jax.block_until_ready(call())
    held = _live() - before
    del result
    return held


def bytes_of(call: Callable[[], Any]) -> dict[str, int | None]:
    """What a call reads from files, mapped ones too, and what it allocates in large blocks.

    What XLA allocates for its arrays is not counted: it copies or not, by where numpy's memory happens to begin.
    Without memray nothing is known of blocks, nor of maps; None where nobody tells.
    """
    before = bytes_read()
    jax.block_until_ready(call())
    after = bytes_read()
    blocks = _blocks_of(call)
    read = None if before is None or after is None else after - before + blocks.get("mapped", 0)
    return {"bytes_read": read, "bytes_allocated": blocks.get("allocated")}


def _blocks_of(call: Callable[[], Any]) -> dict[str, int]:
    """The bytes of blocks and maps."""
    if importlib.util.find_spec("memray") is None:
        return {}
    from memray import AllocatorType, FileReader, Tracker

    gc.collect()
    with tempfile.TemporaryDirectory(prefix="pi0-compat-") as folder:
        file = Path(folder, "blocks.bin")
        with Tracker(file):
            jax.block_until_ready(call())
        records = list(FileReader(file).get_allocation_records())
    blocks = [(AllocatorType(block.allocator).name, block.size) for block in records]
    return {
        "allocated": sum(size for kind, size in blocks if kind in _ALLOCATING and size > _LARGE),
        "mapped": sum(size for kind, size in blocks if kind == "MMAP" and size > _SMALL_MAP and size != _ARENA),
    }


def _live() -> int:
    # A model holds itself: it is there until it is collected.
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays())
