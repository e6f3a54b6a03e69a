"""Download remote checkpoints into a local cache, through fsspec. The cache holds only complete downloads.

Every URL has its own folder in the cache, so that a part of a checkpoint is never taken for all of it. A download goes
to a scratch folder, which is renamed when every file has its full size; a lock file per URL makes concurrent callers
share one transfer. Existing files are never deleted.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pi0_compat.errors import CheckpointError
from pi0_compat.extras import extra_of, install_line
from pi0_compat.storage.network import require_reachable

# fsspec and filelock are imported only for URLs: local checkpoints are read without them.
if TYPE_CHECKING:
    import fsspec

CACHE_VARIABLE = "PI0_COMPAT_CACHE"
# gcsfs looks for credentials first and fails without them; openpi's and Google's checkpoints are public (openpi #900).
_STORAGE_OPTIONS: dict[str, dict[str, Any]] = {"gs": {"token": "anon"}, "gcs": {"token": "anon"}, "s3": {"anon": True}}
# URL scheme -> the package that fsspec imports for it; fsspec does not always name it in its error.
_DRIVERS = {"gs": "gcsfs", "gcs": "gcsfs"}
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


def is_url(path: str | os.PathLike[str]) -> bool:
    """Return whether the path has to be fetched through fsspec."""
    return bool(_URL.match(os.fspath(path)))


def cache_dir() -> Path:
    """Return the folder for downloads: ``$PI0_COMPAT_CACHE``, else ``~/.cache/pi0-compat``."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "pi0-compat").expanduser()


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return a local path as an absolute one.

    Raises:
      CheckpointError: the path is empty, which would be the working folder.
    """
    if not os.fspath(path):
        raise CheckpointError("expected the path or URL of a checkpoint, found an empty one")
    return Path(path).expanduser().absolute()


def fetch(path: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None) -> Path:
    """Return the local path of a file or folder, which is downloaded if it is a URL; a local path becomes absolute.

    Args:
      path: a local path, or a URL that fsspec knows.
      cache: the folder for downloads; ``cache_dir()`` by default.

    Raises:
      CheckpointError: the file system or the file is not available, or the transfer failed. The cache is unchanged.
    """
    if not is_url(path):
        return absolute(path)
    from filelock import FileLock

    url = os.fspath(path).rstrip("/")
    cache = cache_dir() if cache is None else Path(cache).expanduser().absolute()
    target = _target(url, cache)
    if target.exists():
        return target
    filesystem = _filesystem(url)
    require_reachable(url)
    with one_kind_of_error(url):
        # List before writing anything: a URL that does not exist leaves no trace.
        sizes = _list(filesystem, url)
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target.parent}.lock"):
            if not target.exists():
                _download(filesystem, url, sizes, target)
    return target


def remote_files(url: str) -> tuple["fsspec.AbstractFileSystem", dict[str, int | None]]:
    """Return the file system of a URL, and the size of every file, by path; call within ``one_kind_of_error``."""
    filesystem = _filesystem(url)
    require_reachable(url)
    return filesystem, _list(filesystem, url)


def _target(url: str, cache: Path) -> Path:
    """Return the place of a URL in the cache: its own name, in a folder that no other URL shares."""
    *parents, name = urlsplit(url).path.split("/")
    if not name or ".." in (*parents, name):
        raise CheckpointError(f"{url}: expected the URL of a file or folder")
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return cache / f"{name}-{digest}" / name


def _filesystem(url: str) -> "fsspec.AbstractFileSystem":
    import fsspec

    scheme = urlsplit(url).scheme
    try:
        return fsspec.filesystem(scheme, **_STORAGE_OPTIONS.get(scheme, {}))
    except ImportError as error:
        extra = extra_of(error.name) or extra_of(_DRIVERS.get(scheme))
        way_out = f"install it: {install_line(extra)}" if extra else str(error)
        raise CheckpointError(
            f"{url}: no driver for {scheme}:// is installed ({way_out}); or pass a local path"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{url}: {scheme}:// is unknown to fsspec ({error}); or pass a local path") from error


def _list(filesystem: "fsspec.AbstractFileSystem", url: str) -> dict[str, int | None]:
    """Return the size of the file, or of every file in the folder, by remote path; None where it is unknown."""
    if filesystem.isfile(url):
        return {filesystem._strip_protocol(url): filesystem.info(url).get("size")}
    sizes = {remote: info.get("size") for remote, info in filesystem.find(url, detail=True).items()}
    if not sizes:
        raise CheckpointError(f"{url}: there is no such file or folder, or the folder is empty")
    if outside := [remote for remote in sizes if ".." in Path(remote).parts]:
        raise CheckpointError(f"{url}: lists {outside[0]}, which would be written outside of the cache")
    return sizes


def _download(filesystem: "fsspec.AbstractFileSystem", url: str, sizes: dict[str, int | None], target: Path) -> None:
    """Copy into a scratch folder of this call alone, compare the sizes, then rename."""
    cache = target.parent.parent
    root = Path(filesystem._strip_protocol(url))
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=cache) as scratch:
        whole = Path(scratch) / "whole"
        for remote, size in sizes.items():
            local = whole / target.name / Path(remote).relative_to(root)
            local.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(remote, str(local))
            if size is not None and local.stat().st_size != size:
                found = local.stat().st_size
                raise CheckpointError(f"{url}: {remote} came with {found} bytes of {size}; nothing was kept")
        whole.rename(target.parent)


@contextmanager
def one_kind_of_error(url: str) -> Iterator[None]:
    """Raise whatever a driver raises as a CheckpointError that names the URL."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{url}: the download failed ({type(error).__name__}: {error}); nothing was kept"
        ) from error
