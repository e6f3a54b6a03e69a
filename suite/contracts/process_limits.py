"""Memory and disk limits for processes: the allowance of a load, a full disk."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

# Bytes that a load may use beyond its result: the arrays being read, and their buffers.
WINDOW = 160_000_000

# Enough for the metadata of a tiny checkpoint, not for its arrays.
_FREE_SPACE = 1 << 16


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Keep every file of the process below 64 KiB within the body: a larger write fails as on a full disk."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (_FREE_SPACE, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
