"""Count what a call does: the counts depend on the code, not on how busy the machine is.

The counters run in the subject's process. They count the programs that jax compiles, the bytes read or mapped, and the
memory allocated in large blocks (if memray is installed).
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

# Only blocks above this size count: smaller ones depend on what was allocated before.
_LARGE = 1 << 20
# Only maps above this size that are not a Python arena count: all other maps are files.
_SMALL_MAP, _ARENA = 1 << 16, 1 << 20
_ALLOCATING = ("MALLOC", "CALLOC", "REALLOC")


def compiled_by(call: Callable[[], Any], stages: Stages) -> tuple[Any, int]:
    """Return the call's result, once it is ready, and the number of programs it compiled."""
    before = stages.programs
    return jax.block_until_ready(call()), stages.programs - before


def held_by(call: Callable[[], Any]) -> int:
    """Return the bytes of the jax arrays that a call leaves behind."""
    before = _live()
    result = jax.block_until_ready(call())
    held = _live() - before
    del result
    return held


def bytes_of(call: Callable[[], Any]) -> dict[str, int | None]:
    """Count the bytes that a call reads from files, mapped ones included, and allocates in large blocks.

    XLA's allocations for its arrays are not counted: whether it copies depends on the alignment of numpy's memory.
    Blocks and maps need memray; unknown counts are None.
    """
    before = bytes_read()
    jax.block_until_ready(call())
    after = bytes_read()
    blocks = _blocks_of(call)
    read = None if before is None or after is None else after - before + blocks.get("mapped", 0)
    return {"bytes_read": read, "bytes_allocated": blocks.get("allocated")}


def _blocks_of(call: Callable[[], Any]) -> dict[str, int]:
    """Return the bytes of blocks and maps."""
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
    # Models contain reference cycles; they stay alive until collected.
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays())
