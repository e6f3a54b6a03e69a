"""Measure by how much a process grows, from the system's high-water mark of its memory (VmHWM), reset beforehand.

Not from ``ru_maxrss``, because a child process starts with its parent's. It runs wherever a subject does, with the
standard library alone. The results are None on a system without such a mark.
"""

import ctypes
import gc
from pathlib import Path

_PROC = Path("/proc/self")
# A parameter of glibc's mallopt: blocks of at least this size are mapped, and unmapped when they are freed.
_M_MMAP_THRESHOLD = -3


def start_anew(own_memory_from: int) -> int | None:
    """Reset the mark to the memory in use now, and return it in bytes.

    Free memory is returned to the system, now and later: growing into it would not show, and holes would count.

    Args:
      own_memory_from: the size in bytes from which a block is returned as soon as it is freed.
    """
    gc.collect()
    if not (_PROC / "clear_refs").exists():
        return None
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.mallopt(_M_MMAP_THRESHOLD, own_memory_from)
        libc.malloc_trim(0)
    (_PROC / "clear_refs").write_text("5", encoding="ascii")
    return peak()


def peak() -> int | None:
    """Return the most bytes that this process had since the mark was reset, or since it started."""
    kilobytes = number_in("status", "VmHWM:")
    return None if kilobytes is None else 1024 * kilobytes


def number_in(file: str, name: str) -> int | None:
    """Return a number about this process from a file of /proc/self; None if it is not there."""
    if not (_PROC / file).exists():
        return None
    lines = (_PROC / file).read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), None)
