"""Write beside the destination under another name, and rename when the result is complete.

An error, Ctrl-C or SIGTERM removes the unfinished part. A process that is killed outright leaves ``.NAME.unfinished``;
the next one that writes to the same destination removes it first. A lock inside, which the system releases when its
owner ends, tells a leftover from a write in progress.
"""

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK, _WHOLE = "lock", "whole"


@contextmanager
def appearing_at(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write a file or folder to. It is moved to ``out`` when the body ends, and removed if it fails.

    Parents of ``out`` are made, and stay.

    Raises:
      FileExistsError: something is at ``out``, which is left alone, or another process is writing to it.
    """
    out = Path(out).expanduser().absolute()
    refuse_to_overwrite(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = unfinished(out)
    left_behind = scratch.exists()
    scratch.mkdir(exist_ok=True)
    lock = FileLock(scratch / _LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise FileExistsError(f"{out}: another process is writing it, in {scratch}; wait for it") from None
    try:
        if left_behind:
            warnings.warn(f"{scratch}: what a killed run left behind is removed", stacklevel=3)
            _remove(scratch / _WHOLE)
        yield scratch / _WHOLE
        refuse_to_overwrite(out)
        (scratch / _WHOLE).rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.release()


def refuse_to_overwrite(out: Path) -> None:
    """Raise a FileExistsError if anything is at a path, a dangling link included."""
    if out.exists() or out.is_symlink():
        raise FileExistsError(f"{out}: already exists; choose another folder or remove it first")


def unfinished(out: Path) -> Path:
    """Return the folder that holds what is being written to ``out``."""
    return out.with_name(f".{out.name}.unfinished")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
