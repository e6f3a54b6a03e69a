"""Outline a remote checkpoint: every file's name and size, but only the contents that metadata readers read.

The files are sparse: they have their full length and hardly any bytes. Small files are copied whole, of safetensors the
header, of an npz the directory and the first bytes of each member. Arrays of a few kilobytes may be included; reading
others from an outline gives zeros, so use it for metadata only. Of a token table that is stored under both of its
names, some places are copied, so that two tables that differ are found.
"""

import io
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.folder import METADATA_FILE
from pi0_compat.layouts.torch.safetensors_folder import INDEX
from pi0_compat.layouts.torch.tied import places
from pi0_compat.storage.download import absolute, is_url, one_kind_of_error, remote_files

if TYPE_CHECKING:
    import fsspec

# More than the metadata of the largest of these models takes in orbax, safetensors or npz.
_SMALL = 1 << 20
_ALWAYS_WHOLE = (METADATA_FILE, "manifest.ocdbt", INDEX)
_HEADER_LENGTH = 8
# More than a member's header in a zip and the header of its array take.
_MEMBER_HEADERS = 4096


@contextmanager
def outline(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a local path for reading the metadata of a checkpoint; for a local checkpoint, its own path.

    Args:
      path: a file or folder, local or a URL. The outline of a URL is deleted afterwards.

    Raises:
      CheckpointError: the URL does not exist, or cannot be read.
    """
    if not is_url(path):
        yield absolute(path)
        return
    url = os.fspath(path).rstrip("/")
    with tempfile.TemporaryDirectory(prefix="pi0-compat-") as scratch:
        target = Path(scratch) / url.rpartition("/")[2]
        with one_kind_of_error(url):
            filesystem, sizes = remote_files(url)
            root = Path(filesystem._strip_protocol(url))
            local = {target / Path(remote).relative_to(root): remote for remote in sizes}
            for place, remote in local.items():
                _copy(filesystem, remote, sizes[remote], place)
            _copy_places_of_tables(filesystem, local)
        yield target


def _copy(filesystem: "fsspec.AbstractFileSystem", remote: str, size: int | None, local: Path) -> None:
    local.parent.mkdir(parents=True, exist_ok=True)
    if size is None:
        raise CheckpointError(f"{remote}: the file system does not tell its size; download it and pass the local path")
    if size <= _SMALL or local.name in _ALWAYS_WHOLE:
        local.write_bytes(filesystem.cat_file(remote))
        return
    with local.open("wb") as file:
        file.truncate(size)
        for start, end in _parts(filesystem, remote, size):
            file.seek(start)
            file.write(filesystem.cat_file(remote, start=start, end=min(end, size)))


def _copy_places_of_tables(filesystem: "fsspec.AbstractFileSystem", remote: Mapping[Path, str]) -> None:
    """Copy what two names of one table are compared by."""
    chosen = list(places(sorted(file for file in remote if file.suffix == ".safetensors")))
    files, begins, ends = ([remote[p.file] for p in chosen], [p.begin for p in chosen], [p.end for p in chosen])
    for place, found in zip(chosen, filesystem.cat_ranges(files, begins, ends, on_error="raise"), strict=True):
        with place.file.open("r+b") as file:
            file.seek(place.begin)
            file.write(found)


def _parts(filesystem: "fsspec.AbstractFileSystem", remote: str, size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a large file that hold metadata, as first and last offset in bytes."""
    if remote.endswith(".safetensors"):
        length = int.from_bytes(filesystem.cat_file(remote, start=0, end=_HEADER_LENGTH), "little")
        # An impossible length is left to the reader and its message.
        yield 0, _HEADER_LENGTH + (length if length <= size else 0)
    elif remote.endswith(".npz"):
        # The directory of an archive is at its end.
        tail = max(0, size - _SMALL)
        yield tail, size
        yield from _members(filesystem.cat_file(remote, start=tail, end=size), tail)


def _members(tail: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges in which the members of an archive begin, found in its last bytes."""
    try:
        with zipfile.ZipFile(_Tail(tail, start)) as archive:
            offsets = [member.header_offset for member in archive.infolist()]
    except (zipfile.BadZipFile, ValueError):
        return  # the reader will report it
    yield from ((offset, offset + _MEMBER_HEADERS) for offset in offsets if offset < start)


class _Tail(io.RawIOBase):
    """The end of a file at its place in the file; the bytes before it read as zeros."""

    def __init__(self, tail: bytes, start: int) -> None:
        self._tail, self._start, self._at = tail, start, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._start + len(self._tail)}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._start + len(self._tail) if size < 0 else self._at + size
        zeros = bytes(max(0, min(end, self._start) - self._at))
        found = zeros + self._tail[max(0, self._at - self._start) : max(0, end - self._start)]
        self._at += len(found)
        return found
