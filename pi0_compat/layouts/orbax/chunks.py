"""Decode chunks of a zarr array a block at a time, straight from the store's files into their place.

tensorstore decodes a chunk as a whole: up to 2 GB of new memory, a fault for every page of it, and each number goes out
to memory and comes back before it is cast. A block stays in a core's cache. tensorstore says where the bytes of a chunk
are; a chunk that cannot be decoded here is left to it, and to its errors.
"""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import unquote

import numpy as np
import tensorstore as ts

from pi0_compat.params import Leaf

zstandard: Any = None
with contextlib.suppress(ImportError):
    # Optional, for machines without a network: without it tensorstore decodes, whole chunks.
    zstandard = importlib.import_module("zstandard")

# Bytes that are read and decoded at a time: with zstd's tables, both stay in a core's cache.
_READ, _BLOCK = 1 << 18, 1 << 19
# The bytes that zstd may refer back to, kept in its own memory; half a megabyte at the level that orbax writes.
_WINDOW = 8 << 20
# The most memory that decoding takes, beside the result's own.
TAKEN = _READ + _BLOCK + _WINDOW


class ChunkFiles(NamedTuple):
    """Where the chunks of one array are.

    Attributes:
      folder: the store's folder, resolved.
      places: of all keys of the store, in tensorstore's notation ``value:<folder>:<file>:<offset>:<length>``.
      prefix: of the array's keys.
      separator: between the numbers of a chunk in its key.
    """

    folder: Path
    places: Mapping[bytes, str]
    prefix: str
    separator: str

    def has(self, chunk: tuple[int, ...]) -> bool:
        """Return whether the place of a chunk is known; a chunk is numbered along each axis."""
        return self._key(chunk) in self.places

    def decode(self, chunk: tuple[int, ...], target: np.ndarray, dtype: np.dtype) -> bool:
        """Decode a chunk into an array of its shape, cast to that array's dtype; return False if that failed.

        Casts as numpy does: a value that is too large becomes infinite, without a warning.
        """
        try:
            path, offset, length = self.place(chunk)
            with path.open("rb", buffering=0) as file, np.errstate(over="ignore", invalid="ignore"):
                file.seek(offset)
                return _decode(_Part(file, length), target, dtype)
        except (OSError, ValueError, zstandard.ZstdError):
            return False

    def stream(self, chunk: tuple[int, ...], dtype: np.dtype) -> "ChunkStream":
        """Return a chunk to decode from its first value to its last, as far as it is read."""
        return ChunkStream(*self.place(chunk), dtype)

    def place(self, chunk: tuple[int, ...]) -> tuple[Path, int, int]:
        """Return the file, offset and length of a chunk; raise a ValueError if it is outside of the store."""
        return located(self.folder, self.places[self._key(chunk)])

    def name(self, chunk: tuple[int, ...]) -> str:
        """Return what the key of a chunk has behind the prefix."""
        return self.separator.join(map(str, chunk)) or "0"

    def _key(self, chunk: tuple[int, ...]) -> bytes:
        return f"{self.prefix}{self.name(chunk)}".encode()


def located(folder: Path, place: str) -> tuple[Path, int, int]:
    """Return the file, offset and length of a place in a store; raise a ValueError if it is outside of the store."""
    names, offset, length = place.removeprefix("value:").rsplit(":", 2)
    path = (folder / unquote(names.replace(":", ""))).resolve()
    if not path.is_relative_to(folder):
        raise ValueError(f"{path} is out of {folder}")
    return path, int(offset), int(length)


def places(folder: Path) -> dict[bytes, str]:
    """Return the places of what a store keeps in data files, by key; empty if its tree has more than the root."""
    try:
        base = ts.KvStore.open({"driver": "file", "path": f"{folder}/"}).result()
        root = ts.ocdbt.dump(base).result()["versions"][-1]["root"]["location"]
        entries = ts.ocdbt.dump(base, root).result()["entries"]
    except Exception:  # noqa: BLE001 - tensorstore raises all kinds, and will when the arrays are opened
        return {}
    return {entry["key"]: entry["indirect_value"] for entry in entries if "indirect_value" in entry}


def chunk_files(folder: Path, places: Mapping[bytes, str], store: Any, leaf: Leaf) -> ChunkFiles | None:
    """Return where an array's chunks are; None without zstandard, or unless all are plain zstd of one size."""
    spec = store.spec().to_json()
    metadata = spec["metadata"]
    plain = (
        zstandard is not None
        and spec["driver"] == "zarr"
        and (metadata["compressor"] or {}).get("id") == "zstd"
        and (metadata["filters"], metadata["order"]) == (None, "C")
        and metadata["dtype"] in {leaf.dtype.str, leaf.dtype.name}
        and not any(length % side for length, side in zip(leaf.shape, metadata["chunks"], strict=True))
    )
    return ChunkFiles(folder, places, spec["kvstore"]["path"], metadata["dimension_separator"]) if plain else None


class ChunkStream:
    """A chunk that is decoded as far as it is read. Close it."""

    def __init__(self, path: Path, offset: int, length: int, dtype: np.dtype) -> None:
        self._file = path.open("rb", buffering=0)
        self._file.seek(offset)
        self._source, self._dtype = _Part(self._file, length), dtype
        self._reader = _reader(self._source)

    def fill(self, target: np.ndarray) -> None:
        """Decode the next values into ``target``, until it is full.

        Raises:
          ValueError: the chunk has fewer values.
        """
        if not _fill(self._reader, target, self._dtype):
            raise ValueError("a chunk ends before its last number")

    def end(self) -> None:
        """Raise a ValueError if anything is left of the chunk."""
        if self._reader.read(1) or self._source.left:
            raise ValueError("a chunk goes on behind its last number")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Part:
    """A part of a file. Each piece is read into the same memory, so it is valid until the next one."""

    def __init__(self, file: IO[bytes], length: int) -> None:
        self.left = length
        self._file: Any = file
        self._memory = memoryview(bytearray(min(_READ, length)))

    def read(self, size: int) -> memoryview:
        """Return the next bytes, at most ``size``; none at the end."""
        found = self._file.readinto(self._memory[: min(size, self.left)])
        self.left -= found
        return self._memory[:found]


def _decode(source: Any, target: np.ndarray, dtype: np.dtype) -> bool:
    """Decode a part of a file into ``target``; return whether it is one frame of zstd with exactly as many values."""
    reader = _reader(source)
    if not _fill(reader, target, dtype):
        return False
    return not reader.read(1) and not source.left


def _reader(source: Any) -> Any:
    return zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(source, read_size=_READ)


def _fill(reader: Any, target: np.ndarray, dtype: np.dtype) -> bool:
    """Fill ``target``; return False if the stream ends early."""
    block = np.empty(min(_BLOCK // dtype.itemsize, target.size), dtype)
    for part in _parts(target, block.size):
        decoded = block[: part.size]
        if reader.readinto(decoded.view(np.uint8)) != decoded.nbytes:
            return False
        np.copyto(part, decoded.reshape(part.shape), casting="unsafe")
    return True


def _parts(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield an array in parts of at most that many values, in C order."""
    if array.size <= size:
        yield array
    elif rows := size // array[0].size:
        yield from (array[first : first + rows] for first in range(0, len(array), rows))
    else:
        for row in array:
            yield from _parts(row, size)
