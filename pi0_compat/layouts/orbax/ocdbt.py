"""Write the files of a key-value store of tensorstore (OCDBT): values one after another, then a tree that finds them.

The format is tensorstore's (its documentation of the ``ocdbt`` driver, format version 0). tensorstore writes a value
from memory, whole; here a value is a run of bytes that is appended to a data file, so that an encoded chunk is copied
from one checkpoint to another without being decoded, and several threads write at once. The tree is one leaf node;
tensorstore reads it, and merges it into the store that readers open.
"""

import os
import secrets
import struct
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

MANIFEST = "manifest.ocdbt"
# Where data files lie in a store; each has a random name of 32 hexadecimal digits.
_FOLDER = "d"
# The length at which another data file is begun, as orbax has it.
_FILE_BYTES = 2**31
# A value up to this length is in the tree itself, as orbax has it.
INLINE_BYTES = 1024
# The largest node, as orbax has it; a leaf node with a million keys is smaller.
_NODE_BYTES = 100_000_000
_NODE_MAGIC, _MANIFEST_MAGIC = 0x0CDB20DE, 0x0CDB3A2A
_VERSION, _UNCOMPRESSED, _ZSTD = 0, 0, 1
# Settings of the manifest that are tensorstore's defaults: one manifest file, sixteen versions in a node.
_SINGLE, _ARITY_LOG2 = 0, 4
# CRC-32C (Castagnoli), reflected.
_POLYNOMIAL = 0x82F63B78


class Place(NamedTuple):
    """Where a value is: a data file, relative to the store, the offset in it, and the number of bytes."""

    file: str
    offset: int
    length: int


Value: TypeAlias = bytes | Place


class DataFiles:
    """The data files of a store, to which any thread appends. Use it as a context manager, which syncs them."""

    def __init__(self, store: Path) -> None:
        self._store, self._lock = store, threading.Lock()
        self._files: dict[str, int] = {}
        self._name, self._end = "", _FILE_BYTES
        (store / _FOLDER).mkdir(parents=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._files.values():
            try:
                if kind is None:
                    os.fsync(number)
            finally:
                os.close(number)

    def append(self, parts: Iterable[bytes | memoryview], length: int) -> Place:
        """Write a value of ``length`` bytes that comes in parts.

        Raises:
          OSError: the disk is full, or the file cannot be written.
        """
        place = self._reserve(length)
        number, offset = self._files[place.file], place.offset
        for part in parts:
            view = memoryview(part)
            while view:
                done = os.pwrite(number, view, offset)
                offset, view = offset + done, view[done:]
        return place

    def _reserve(self, length: int) -> Place:
        with self._lock:
            if self._end and self._end + length > _FILE_BYTES:
                self._name, self._end = f"{_FOLDER}/{secrets.token_hex(16)}", 0
                path = self._store / self._name
                self._files[self._name] = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            place = Place(self._name, self._end, length)
            self._end += length
            return place


def write_tree(store: Path, values: Mapping[str, Value]) -> None:
    """Write the node and the manifest of a store whose data files are there.

    Args:
      store: its folder.
      values: key -> the value itself, or its place in a data file.

    Raises:
      ValueError: there are too many keys for one node.
    """
    node = _node(values)
    if len(node) > _NODE_BYTES:
        raise ValueError(f"{store}: {len(values)} keys take a node of {len(node)} bytes, more than {_NODE_BYTES}")
    name = f"{_FOLDER}/{secrets.token_hex(16)}"
    _write_synced(store / name, node)
    _write_synced(store / MANIFEST, _manifest(Place(name, 0, len(node)), values))


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _node(values: Mapping[str, Value]) -> bytes:
    """Return the encoded leaf node of all keys, without the compression of common prefixes."""
    ordered = sorted((key.encode(), value) for key, value in values.items())
    keys, found = [key for key, _ in ordered], [value for _, value in ordered]
    places = [value for value in found if isinstance(value, Place)]
    files = list(dict.fromkeys(place.file for place in places))
    height, no_prefixes = b"\0", [0] * (len(keys) - 1)
    body = [
        height,
        _file_table(files),
        _varint(len(keys)),
        _varints(no_prefixes),
        _varints(map(len, keys)),
        *keys,
        _varints(value.length if isinstance(value, Place) else len(value) for value in found),
        _varints(int(isinstance(value, Place)) for value in found),
        _varints(files.index(place.file) for place in places),
        _varints(place.offset for place in places),
        *(value for value in found if isinstance(value, bytes)),
    ]
    return _framed(_NODE_MAGIC, b"".join(body))


def _manifest(root: Place, values: Mapping[str, Value]) -> bytes:
    """Return the encoded manifest of a store with one version, whose tree is one node."""
    indirect = sum(value.length for value in values.values() if isinstance(value, Place))
    config = [
        secrets.token_bytes(16),
        _varints([_SINGLE, INLINE_BYTES, _NODE_BYTES]),
        bytes([_ARITY_LOG2]),
        _varint(_ZSTD),
        struct.pack("<i", 0),
    ]
    versions = [
        _varints([1, 1]),  # one version, of generation one
        b"\0",  # the height of its root
        _varints([0, root.offset, root.length]),
        _varints([len(values), root.length, indirect]),
        struct.pack("<Q", time.time_ns()),
    ]
    older = _varint(0)
    return _framed(_MANIFEST_MAGIC, b"".join([*config, _file_table([root.file]), *versions, older]))


def _framed(magic: int, body: bytes) -> bytes:
    """Return a body with the header and the checksum that nodes and manifests have."""
    tail = bytes([_VERSION, _UNCOMPRESSED]) + body
    length = struct.calcsize(">IQ") + len(tail) + struct.calcsize("<I")
    whole = struct.pack(">I", magic) + struct.pack("<Q", length) + tail
    return whole + struct.pack("<I", crc32c(whole))


def _file_table(files: Sequence[str]) -> bytes:
    """Return the encoded table of data files, without the compression of common prefixes."""
    names = [file.encode() for file in files]
    no_prefix, no_base = [0] * (len(names) - 1), [0] * len(names)
    lengths = [*no_prefix, *map(len, names), *no_base]
    return _varint(len(names)) + _varints(lengths) + b"".join(names)


def _varints(numbers: Iterable[int]) -> bytes:
    return b"".join(map(_varint, numbers))


def _varint(number: int) -> bytes:
    """Return a number in groups of seven bits, lowest first; all groups but the last have the eighth bit."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def crc32c(content: bytes) -> int:
    """Return the CRC-32C of a few kilobytes."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = [_entry(byte) for byte in range(256)]
