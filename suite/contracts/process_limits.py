"""Memory and disk limits for processes: the allowance of a load, a full disk, capped memory."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Bytes that a load may use beyond its result: the arrays being read, and their buffers.
WINDOW = 160_000_000

# Enough for the metadata of a tiny checkpoint, not for its arrays.
_FREE_SPACE = 1 << 16
_PAGE = resource.getpagesize()


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Keep every file of the process below 64 KiB within the body: a larger write fails as on a full disk."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (_FREE_SPACE, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def limit_memory(pid: int, extra_bytes: int) -> None:
    """Limit a running process to ``extra_bytes`` beyond its current address space; larger allocations fail."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0]
    limit = int(pages) * _PAGE + extra_bytes
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
