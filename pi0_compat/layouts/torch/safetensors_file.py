"""Read a safetensors file from a memory map, tensor by tensor; write one a part of a tensor at a time.

The format (github.com/huggingface/safetensors): eight bytes with the header's length, little-endian; a JSON header
``{name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {str: str}}``; the data, to which the offsets
are relative, without holes or overlaps up to the end of the file. The ``safetensors`` package is not used, because
numpy has no bfloat16 and because a file that breaks one of these rules is rejected before an array is made.
"""

import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from pi0_compat.errors import CheckpointError
from pi0_compat.params import Leaf
from pi0_compat.storage.foreign import what_it_is
from pi0_compat.storage.stream import Source, cut

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
# The dtypes of weights; other numbers are codes of a quantization, and a cast would be garbage.
FLOATS = frozenset(DTYPES[code] for code in ("F64", "F32", "F16", "BF16"))
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_METADATA = "__metadata__"
# Rows that are copied to C order at a time.
_ROWS = 64
_LENGTH_BYTES = 8
# The limit of the format's own readers: a header of the largest model has a few megabytes.
MAX_HEADER_BYTES = 100_000_000


class Tensor(NamedTuple):
    """The shape and dtype of a tensor, and the offsets of its first byte and of the byte after its last."""

    leaf: Leaf
    begin: int
    end: int


class SafetensorsFile(Source):
    """The tensors of a file under their own names. The header is read at once, a tensor when its values are used.

    Attributes:
      path: the file.
      leaves: name -> shape and dtype of every tensor.
      metadata: the writer's notes, for example ``{"format": "pt"}``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata, self._tensors = _read_header(path)
        self.leaves: dict[str, Leaf] = {name: tensor.leaf for name, tensor in sorted(self._tensors.items())}

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """Return a tensor as a read-only view of the file, or cast."""
        leaf, begin, end = self._tensors[path]
        if begin == end:
            return np.empty(leaf.shape, dtype or leaf.dtype)
        # A map for each tensor: its pages are released with its array, not with the whole file.
        mapped = np.memmap(self.path, np.uint8, mode="r", offset=begin, shape=(end - begin,))
        return np.asarray(mapped).view(leaf.dtype).reshape(leaf.shape).astype(dtype or leaf.dtype, copy=False)

    def extent(self, path: str) -> tuple[int, int]:
        """Return the offsets in the file of a tensor's first byte and of the byte after its last."""
        _, begin, end = self._tensors[path]
        return begin, end

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a tensor as views of the file."""
        return cut(self.read(path))


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two arrays have the same shape, dtype and bits; compared row by row, without copying either."""
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and all(a.tobytes() == b.tobytes() for a, b in zip(*map(np.atleast_1d, (one, other)), strict=True))


@contextmanager
def open_safetensors(path: Path) -> Iterator[SafetensorsFile]:
    """Open a file, and check its header against the format and the file's size.

    Raises:
      CheckpointError: the file does not exist, is truncated, is not safetensors or breaks the format; the message names
        the tensor.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise CheckpointError(f"{path}: expected a safetensors file, found {found}")
    yield SafetensorsFile(path)


def write_safetensors(
    path: Path,
    leaves: Mapping[str, Leaf],
    parts: Iterable[tuple[str, np.ndarray]],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a file, holding one part of a tensor at a time; the same tensors give the same bytes.

    Args:
      path: the file to make.
      leaves: name -> shape and dtype of every tensor, in the order to write; tensors of wider dtypes go first.
      parts: names with arrays, tensors in any order; a tensor may come in several parts along its first axis.
      metadata: strings for the header.

    Raises:
      FileExistsError: something is at ``path``; it is left alone.
      ValueError: the format has no name for a dtype, or an array is not what ``leaves`` says.
    """
    # The order of the format's own writer, which aligns every tensor.
    names = sorted(leaves, key=lambda name: -leaves[name].dtype.itemsize)
    with path.open("xb") as file:
        header = _header(names, leaves, dict(metadata or {}))
        file.write(header)
        ends = list(itertools.accumulate((leaves[name].num_bytes for name in names), initial=len(header)))
        place, end = dict(zip(names, ends, strict=False)), dict(zip(names, ends[1:], strict=True))
        for name, array in parts:
            _require_part(name, array, leaves[name], end[name] - place[name])
            file.seek(place[name])
            _write_array(file, array)
            place[name] += array.nbytes
        if lacking := [name for name in names if place[name] != end[name]]:
            rest = end[lacking[0]] - place[lacking[0]]
            raise ValueError(f"{lacking[0]}: expected {leaves[lacking[0]]}, of which {rest} bytes were not given")
        file.flush()
        os.fsync(file.fileno())


def _require_part(name: str, array: np.ndarray, leaf: Leaf, left: int) -> None:
    alike = (array.shape[1:], array.dtype, array.ndim) == (leaf.shape[1:], leaf.dtype, len(leaf.shape))
    if not alike or array.nbytes > left:
        raise ValueError(f"{name}: expected {leaf}, found {array.dtype.name}{list(array.shape)}")


def _write_array(file: IO[bytes], array: np.ndarray) -> None:
    """Write the values in C order; a transposed array a few rows at a time, which keeps both sides in the cache."""
    little = array.dtype.newbyteorder("<")
    whole = array.flags.c_contiguous or array.ndim < 2
    for part in [array] if whole else (array[first : first + _ROWS] for first in range(0, len(array), _ROWS)):
        file.write(np.ascontiguousarray(part, little).reshape(-1).view(np.uint8).data)


def _header(names: list[str], leaves: Mapping[str, Leaf], metadata: dict[str, str]) -> bytes:
    header: dict[str, Any] = {_METADATA: metadata} if metadata else {}
    end = 0
    for name in names:
        leaf = leaves[name]
        if leaf.dtype not in _CODES:
            raise ValueError(f"{name}: safetensors has no dtype {leaf.dtype.name}; one of {', '.join(DTYPES)}")
        begin, end = end, end + leaf.num_bytes
        header[name] = {"dtype": _CODES[leaf.dtype], "shape": list(leaf.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    # Spaces up to a multiple of eight keep the data aligned.
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _read_header(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the metadata and the tensors of a file; every rule of the format is checked."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        start = _LENGTH_BYTES + length
        if size < _LENGTH_BYTES or start > size or length > MAX_HEADER_BYTES:
            if foreign := what_it_is(path):
                raise CheckpointError(f"{path}: expected a safetensors file, found {foreign}")
            raise CheckpointError(
                f"{path}: is no safetensors file or a truncated one: its first bytes tell a header of {length} bytes, "
                f"the file has {size}; get the file again"
            )
        header = _parse(path, file.read(length))
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: {_METADATA} is {metadata!r:.80}; expected strings by name")
    tensors = {name: _tensor(path, name, entry, start) for name, entry in header.items()}
    _require_whole(path, tensors, start, size)
    return metadata, tensors


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ValueError(f"{name} is there twice")
            found[name] = value
        return found

    try:
        header = json.loads(text.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the header is damaged ({error}); get the file again") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header is a {type(header).__name__}; expected tensors by name")
    return header


def _tensor(path: Path, name: str, entry: Any, start: int) -> Tensor:
    """Return the entry of a header; reject it unless shape, dtype and offsets agree."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise CheckpointError(f"{path}: {name} is {entry!r:.80}; expected dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise CheckpointError(f"{path}: {name} has dtype {code!r:.80}; expected one of {', '.join(DTYPES)}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise CheckpointError(f"{path}: {name} has shape {shape!r:.80} at {offsets!r:.80}; expected whole numbers")
    begin, end = offsets
    leaf = Leaf(tuple(shape), DTYPES[code])
    if end - begin != math.prod(shape) * leaf.dtype.itemsize:
        raise CheckpointError(f"{path}: {name} is {leaf}, but has {end - begin} bytes; the header is damaged")
    return Tensor(leaf, start + begin, start + end)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _require_whole(path: Path, tensors: Mapping[str, Tensor], start: int, size: int) -> None:
    """Require that the tensors follow each other from the header to the end of the file."""
    end = start
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1][1:]):
        if tensor.begin != end:
            what = "overlaps the tensor before it" if tensor.begin < end else "comes after a hole"
            raise CheckpointError(f"{path}: {name} {what}; the header is damaged, get the file again")
        end = tensor.end
    if end != size:
        raise CheckpointError(
            f"{path}: the header tells of {end} bytes, the file has {size}: truncated, or not whole; get the file again"
        )
