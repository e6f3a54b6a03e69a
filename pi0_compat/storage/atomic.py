"""Write beside the destination under another name, and rename when the result is complete.

An error, Ctrl-C or SIGTERM removes the unfinished part. A process that is killed outright leaves ``.NAME.unfinished``;
the next one that writes to the same destination removes it first. A lock inside, which the system releases when its
owner ends, tells a leftover from a write in progress.
"""

import errno
import os
import re
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK, _WHOLE = "lock", "whole"
# ``Path`` makes one slash of two.
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")
# What ends a command in the middle of a write.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Writes that were under way when the body failed go on in threads of tensorstore, which make their folders again.
_QUIET_SECONDS, _LONGEST_SECONDS = 0.3, 20.0
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def destination(out: str | os.PathLike[str]) -> Path:
    """Return the absolute path to write to, free of ``..``, if nothing is there.

    Raises:
      FileExistsError: something is at ``out``.
      OSError: ``out`` is a URL.
    """
    if _URL.match(os.fspath(out)):
        raise OSError(f"{os.fspath(out)}: expected a local path to write to, found a URL; write locally, then copy it")
    place = Path(out).expanduser().absolute()
    if ".." in place.parts:
        # Tensorstore takes no such path. The parent is resolved, since ``..`` after a link leads elsewhere.
        place = place.resolve() if place.name == ".." else place.parent.resolve() / place.name
    refuse_to_overwrite(place)
    return place


def require_outside(out: Path, source: Path) -> None:
    """Reject a destination inside of the folder that is read.

    Args:
      out: what ``destination`` returned.
      source: the local file or folder that the caller named.

    Raises:
      OSError: ``out`` lies inside of ``source``.
    """
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise OSError(f"{out}: lies inside of the input, {source}; choose a folder outside of it")


@contextmanager
def appearing_at(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write a file or folder to. It is moved to ``out`` when the body ends, and removed if it fails.

    Parents of ``out`` are made, and stay.

    Raises:
      FileExistsError: something is at ``out``, which is left alone, or another process is writing to it.
      OSError: ``out`` is a URL, or the disk is full; the message names the path.
    """
    out = destination(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = unfinished(out)
    lock = FileLock(scratch / _LOCK)
    done = False
    try:
        with _signals_held():
            left_behind = scratch.exists()
            scratch.mkdir(exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise FileExistsError(f"{out}: another process is writing it, in {scratch}; wait for it") from None
        if left_behind:
            warnings.warn(f"{scratch}: what a killed run left behind is removed", stacklevel=3)
            _remove(scratch / _WHOLE)
        yield scratch / _WHOLE
        refuse_to_overwrite(out)
        (scratch / _WHOLE).rename(out)
        done = True
    except OSError as error:
        if error.filename is None and error.errno in _DISK_ERRORS:
            raise OSError(error.errno, error.strerror, os.fspath(out)) from error
        raise
    finally:
        with _signals_held():
            if lock.is_locked:
                shutil.rmtree(scratch, ignore_errors=True)
                if not done:
                    _remove_for_good(scratch)
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


def _remove_for_good(folder: Path) -> None:
    """Remove a folder until it stays away: writes that are under way make it again."""
    start = last_seen = time.monotonic()
    while (now := time.monotonic()) - last_seen < _QUIET_SECONDS and now - start < _LONGEST_SECONDS:
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
            last_seen = now
        time.sleep(0.01)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the body ends: half of a removal would leave files."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in its main thread, so none interrupts this one
        return
    held: list[int] = []
    before = {number: signal.signal(number, lambda number, _: held.append(number)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if held:
            signal.raise_signal(held[0])
