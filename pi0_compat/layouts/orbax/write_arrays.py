"""Write arrays as encoded chunks into a store, and compare what is read back with the sum of each one.

An array that comes unchanged from another checkpoint keeps its chunks: their bytes are copied, and decoded only for the
digest. Any other array is encoded a block at a time, so that no more than an encoded chunk is in memory.
"""

import itertools
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts

from pi0_compat.layouts.orbax.arrays import StoredArray
from pi0_compat.layouts.orbax.chunks import located, places, zstandard
from pi0_compat.layouts.orbax.ocdbt import INLINE_BYTES, DataFiles, Place, Value, write_tree
from pi0_compat.params import Leaf
from pi0_compat.storage import digests as integrity
from pi0_compat.storage.stream import BLOCK_BYTES, CACHED_VALUES, Counted, Source
from pi0_compat.storage.threads import Report, for_each
from pi0_compat.storage.transforms import Digested

# Small enough to be encoded on all cores and decoded a few at a time; orbax has 2 GB.
_LARGEST_CHUNK = BLOCK_BYTES
_COMPRESSOR = {"id": "zstd", "level": 1}
# An array of more chunks is encoded anew: every chunk takes a key in the tree.
_MOST_CHUNKS = 1 << 12
# Bytes of a file that are copied or summed at a time.
_PIECE = 1 << 20


class Encoded(NamedTuple):
    """A value of the store, and the CRC-32 by which it is recognized when it is read back."""

    value: Value
    crc: int


class WrittenArray(NamedTuple):
    """The digest of an array's values, and everything that the store holds of it, by key."""

    digest: str
    values: dict[str, Encoded]

    @property
    def num_bytes(self) -> int:
        """The bytes in data files."""
        return sum(one.value.length for one in self.values.values() if isinstance(one.value, Place))


def write_arrays(source: Source, names: dict[str, str], store: Path, advance: Report) -> dict[str, WrittenArray]:
    """Write all parameters of a source into a store, several at once.

    Args:
      source: the parameters.
      names: path -> what the keys of its array begin with, which ends in a slash.
      store: the folder of the store to make.
      advance: receives the number of bytes of the parameters that are done.

    Raises:
      OSError: the disk is full, or the store cannot be written.
    """
    largest = sorted(names, key=lambda path: source.leaves[path].num_bytes, reverse=True)
    with DataFiles(store) as files:

        def write(path: str, report: Report) -> WrittenArray:
            counted = Counted(source, report)
            origin = counted.origin(path)
            if origin and _is_copied(origin.array):
                return _copy(counted, path, origin.array, names[path], files)
            return _encode(counted, path, names[path], files)

        written = for_each(largest, write, advance)
    write_tree(store, {key: one.value for array in written.values() for key, one in array.values.items()})
    return written


def read_back(folder: Path, written: dict[str, WrittenArray], advance: Report) -> list[str]:
    """Return the paths of the arrays that are not in the store of a folder as they were written.

    Args:
      folder: the checkpoint, whose store refers to that of ``write_arrays``.
      written: what that returned.
      advance: receives the number of bytes that are read.
    """
    found, root = places(folder), folder.resolve()
    store = ts.KvStore.open({"driver": "ocdbt", "base": {"driver": "file", "path": f"{root}/"}}).result()

    def differs(path: str, report: Report) -> bool:
        for key, one in written[path].values.items():
            if (place := found.get(key.encode())) is None:
                crc = zlib.crc32(store.read(key).result().value)
                report(0)
            else:
                crc = 0
                for piece in _pieces(*located(root, place)):
                    crc = zlib.crc32(piece, crc)
                    report(len(piece))
            if crc != one.crc:
                return True
        return False

    return [path for path, wrong in for_each(written, differs, advance).items() if wrong]


def chunk_shape(leaf: Leaf) -> tuple[int, ...]:
    """Return the shape of an array's chunks, each a run of its values in C order, and equal parts if it can be.

    An axis whose divisors are all much too small, such as a prime number, is cut into parts of which the last is
    shorter: chunks of single rows would be a thousand times as many.
    """
    chunk = list(leaf.shape)
    for axis, length in enumerate(leaf.shape):
        if math.prod(chunk) * leaf.dtype.itemsize <= _LARGEST_CHUNK:
            break
        row = math.prod(chunk[axis + 1 :]) * leaf.dtype.itemsize
        most = max(1, _LARGEST_CHUNK // row)
        even = max(size for size in range(1, min(most, length) + 1) if length % size == 0)
        chunk[axis] = even if 2 * even >= most else -(-length // -(-length // most))
    return tuple(chunk)


def _is_copied(array: StoredArray) -> bool:
    """Return whether the encoded chunks of an array are copied."""
    return array.num_chunks <= _MOST_CHUNKS and array.is_known()


def _copy(source: Source, path: str, array: StoredArray, prefix: str, files: DataFiles) -> WrittenArray:
    """Copy the chunks of a stored array, and read it for its digest, and its damage."""
    assert array.files
    description = bytes(array.store.kvstore.read(".zarray").result().value)
    values = {f"{prefix}.zarray": Encoded(description, zlib.crc32(description))}
    for chunk in array.chunks():
        place = array.files.place(chunk)
        summed = _Summed(_pieces(*place))
        values[f"{prefix}{array.files.name(chunk)}"] = Encoded(files.append(summed, place[2]), summed.crc)
    read = Digested(source)
    for _ in read.blocks(path):
        pass
    return WrittenArray(read.digests[path], values)


def _encode(source: Source, path: str, prefix: str, files: DataFiles) -> WrittenArray:
    """Encode an array chunk by chunk."""
    leaf = source.leaves[path]
    chunk = chunk_shape(leaf)
    description = _described(leaf, chunk)
    values = {f"{prefix}.zarray": Encoded(description, zlib.crc32(description))}
    digest, blocks = integrity.Digest(leaf), _Blocks(source.blocks(path))
    grid = [range(-(-length // (side or 1))) for length, side in zip(leaf.shape, chunk, strict=True)]
    for number in itertools.product(*grid):
        # Only the axis that is cut has chunks of which a part is outside of the array.
        ends = (min(side, length - n * side) for n, side, length in zip(number, chunk, leaf.shape, strict=True))
        inside = math.prod(ends)
        taken = _padded(_hashed(blocks.take(inside), digest), math.prod(chunk) - inside, leaf.dtype)
        parts = _encoded(Leaf(chunk, leaf.dtype), taken)
        name = f"{prefix}{'.'.join(map(str, number)) or '0'}"
        values[name] = _kept(list(parts), files)
    blocks.end()
    return WrittenArray(digest.hexdigest(), values)


def _kept(parts: list[bytes], files: DataFiles) -> Encoded:
    """Return an encoded chunk that was written to a data file, or goes into the tree if it is small."""
    length = sum(map(len, parts))
    if length <= INLINE_BYTES:
        value = b"".join(parts)
        return Encoded(value, zlib.crc32(value))
    summed = _Summed(parts)
    return Encoded(files.append(summed, length), summed.crc)


def _hashed(blocks: Iterable[np.ndarray], digest: integrity.Digest) -> Iterator[np.ndarray]:
    for block in blocks:
        digest.update(block)
        yield block


def _padded(blocks: Iterable[np.ndarray], missing: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yield the blocks, and then as many zeros as a chunk has values outside of its array."""
    yield from blocks
    for first in range(0, missing, CACHED_VALUES):
        yield np.zeros(min(CACHED_VALUES, missing - first), dtype)


def _encoded(leaf: Leaf, blocks: Iterable[np.ndarray]) -> Iterator[bytes]:
    """Yield the encoded chunk of all values of ``blocks``, in parts.

    Args:
      leaf: the shape of the chunk, and its dtype.
      blocks: as many values as that.
    """
    if zstandard is None:
        yield _encoded_by_tensorstore(np.concatenate(list(blocks)))
        return
    encoder = zstandard.ZstdCompressor(level=_COMPRESSOR["level"]).compressobj(size=leaf.num_bytes)
    for block in blocks:
        little = np.ascontiguousarray(block, block.dtype.newbyteorder("<"))
        yield encoder.compress(little.view(np.uint8).data)
    yield encoder.flush()


def _encoded_by_tensorstore(values: np.ndarray) -> bytes:
    store = _in_memory(Leaf(values.shape, values.dtype), values.shape)
    store.write(values).result()
    return bytes(store.kvstore.read("0").result().value)


def _described(leaf: Leaf, chunk: tuple[int, ...]) -> bytes:
    """Return zarr's description of an array, as tensorstore writes it."""
    return bytes(_in_memory(leaf, chunk).kvstore.read(".zarray").result().value)


def _in_memory(leaf: Leaf, chunk: tuple[int, ...]) -> Any:
    """Return an array without values that is kept in memory."""
    spec = {
        "driver": "zarr",
        "kvstore": "memory://",
        "dtype": leaf.dtype.name,
        "metadata": {"shape": leaf.shape, "chunks": [side or 1 for side in chunk], "compressor": _COMPRESSOR},
        "store_data_equal_to_fill_value": True,
    }
    return ts.open(spec, create=True, context=ts.Context()).result()


class _Blocks:
    """Flat blocks that are taken in other lengths than they come in."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._coming, self._rest = iter(blocks), np.empty(0)

    def take(self, size: int) -> Iterator[np.ndarray]:
        """Yield the next ``size`` values."""
        while size:
            if not self._rest.size:
                self._rest = next(self._coming)
            part, self._rest = self._rest[:size], self._rest[size:]
            size -= part.size
            yield part

    def end(self) -> None:
        """Let the source compare what it compares behind the last value."""
        assert next(self._coming, None) is None


class _Summed:
    """Parts of a value, of which the CRC-32 is known when the last one was taken."""

    def __init__(self, parts: Iterable[bytes | memoryview]) -> None:
        self.crc, self._parts = 0, parts

    def __iter__(self) -> Iterator[bytes | memoryview]:
        for part in self._parts:
            self.crc = zlib.crc32(part, self.crc)
            yield part


def _pieces(path: Path, offset: int, length: int) -> Iterator[memoryview]:
    """Yield a part of a file in pieces, each in the memory of the one before it; less if the file ends early."""
    memory = memoryview(bytearray(min(_PIECE, length)))
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while length and (done := file.readinto(memory[: min(_PIECE, length)])):
            length -= done
            yield memory[:done]
