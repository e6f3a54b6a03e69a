"""By how much a process grows: the system's own mark of the most memory that it had (VmHWM), set back beforehand.

Not ``ru_maxrss``: a child starts with its parent's. It runs wherever a subject does, with the standard library alone;
where the system has no such mark there is None.
"""

import ctypes
import gc
from pathlib import Path

_PROC = Path("/proc/self")
# Of glibc's mallopt: blocks from this size on have memory of their own, which goes back to the system with them.
_M_MMAP_THRESHOLD = -3


def start_anew(own_memory_from: int) -> int | None:
    """Set the mark back to what is used now, and return that.

    What is free goes back to the system, now and later: growing into it would not show, and holes would count.

    Args:
      own_memory_from: the bytes of a block that goes back as soon as it is free.
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
    """The most bytes that this process had since the mark was set back, or since it began."""
    kilobytes = number_in("status", "VmHWM:")
    return None if kilobytes is None else 1024 * kilobytes


def number_in(file: str, name: str) -> int | None:
    """A number that the system tells of this process, in a file of /proc."""
    if not (_PROC / file).exists():
        return None
    lines = (_PROC / file).read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), None)
