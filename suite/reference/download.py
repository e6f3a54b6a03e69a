"""Remote checkpoints into a local cache, through fsspec. What is in the cache is whole: a transfer that dies leaves none.

A download lands in a scratch folder of its own beside the target and is renamed when every file has its full size. A
lock file per target makes concurrent callers share one transfer. Nothing that is already there is ever deleted.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from filelock import FileLock

from suite.reference.errors import CheckpointError

CACHE_VARIABLE = "PI0_COMPAT_CACHE"
# gcsfs looks for credentials first and fails without; openpi's and Google's checkpoints are public (openpi #900).
_STORAGE_OPTIONS: dict[str, dict[str, Any]] = {"gs": {"token": "anon"}, "gcs": {"token": "anon"}, "s3": {"anon": True}}
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether the path names a place that fsspec has to fetch from."""
    return bool(_URL.match(os.fspath(path)))


def cache_dir() -> Path:
    """Where downloads go: ``$PI0_COMPAT_CACHE``, else ``~/.cache/pi0-compat``."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "pi0-compat").expanduser()


def fetch(path: str | os.PathLike[str]) -> Path:
    """A local path for a file or folder that may be remote; local paths come back as they are, absolute.

    Raises:
      CheckpointError: the file system or the file is not to be had, or the transfer failed. The cache is as it was.
    """
    if not is_url(path):
        return Path(path).expanduser().absolute()
    url = os.fspath(path).rstrip("/")
    target = _target(url)
    if target.exists():
        return target
    filesystem = _filesystem(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if not target.exists():
            _download(filesystem, url, target)
    return target


def _target(url: str) -> Path:
    """The place of a URL in the cache; distinct URLs have distinct places."""
    parts = urlsplit(url)
    keys = [key for key in parts.path.split("/") if key]
    if not keys or ".." in keys:
        raise CheckpointError(f"{url}: expected the URL of a file or folder")
    return cache_dir().joinpath(parts.scheme, parts.netloc, *keys)


def _filesystem(url: str) -> fsspec.AbstractFileSystem:
    scheme = urlsplit(url).scheme
    try:
        return fsspec.filesystem(scheme, **_STORAGE_OPTIONS.get(scheme, {}))
    except ImportError as error:
        raise CheckpointError(
            f"{url}: no driver for {scheme}:// is installed ({error}); or pass a local path"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{url}: {scheme}:// is unknown to fsspec ({error}); or pass a local path") from error


def _download(filesystem: fsspec.AbstractFileSystem, url: str, target: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _transfer(filesystem, url, scratch / target.name)
        (scratch / target.name).rename(target)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a driver raises, the caller gets one kind of error and a clean cache
        raise CheckpointError(
            f"{url}: the download failed ({type(error).__name__}: {error}); nothing was kept"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _transfer(filesystem: fsspec.AbstractFileSystem, url: str, target: Path) -> None:
    """Copy one file, or every file below a folder, and compare the sizes."""
    root = filesystem._strip_protocol(url)
    sizes = filesystem.find(root, detail=True)
    if not sizes:
        raise CheckpointError(f"{url}: there is no such file or folder, or the folder is empty")
    for remote, info in sizes.items():
        relative = Path(remote).relative_to(root) if remote != root else Path()
        local = target / relative
        local.parent.mkdir(parents=True, exist_ok=True)
        filesystem.get_file(remote, str(local))
        if (found := local.stat().st_size) != info["size"]:
            raise CheckpointError(f"{url}: {remote} came with {found} bytes of {info['size']}; nothing was kept")
