"""Limits for a process that is already running: a disk without room, memory that ends."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Metadata of a tiny checkpoint fits, its arrays do not.
_ROOM = 1 << 16
_PAGE = resource.getpagesize()


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """No file of the process grows beyond 64 KiB in the body; writing more fails as it does on a full disk."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (_ROOM, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def limit_memory(pid: int, further: int) -> None:
    """From now on the process may take that many bytes beside what it has; asking for more fails."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0]
    limit = int(pages) * _PAGE + further
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
