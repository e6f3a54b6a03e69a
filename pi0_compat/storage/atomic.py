"""What is being written lies beside its place under another name, and is renamed when it is whole.

An error, Ctrl-C or SIGTERM removes it. A process that is killed outright cannot: what it leaves is
``.NAME.unfinished``, and the next one that writes to the same place removes that first. A lock in it, which the system
gives back when its owner ends, tells what was left from what is still being written.
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
    """A path to write a file or folder to, which is at ``out`` when the body ends; if it fails, nothing is.

    Parents of ``out`` are made, and stay.

    Raises:
      FileExistsError: something is at ``out``, and is left alone; or another process is writing there.
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
    """Where what will be at ``out`` is while it is written."""
    return out.with_name(f".{out.name}.unfinished")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
