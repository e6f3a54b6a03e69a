"""Chunks decoded block by block: which ones are, that every number lands in its place, and damage."""

import functools
import json
from pathlib import Path
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
import tensorstore as ts
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pi0_compat.layouts.orbax import arrays as stored_arrays
from pi0_compat.layouts.orbax import chunks as chunk_files
from pi0_compat.layouts.orbax.arrays import Reading, StoredArray, open_arrays, read_all
from pi0_compat.params import leaf_of

KEYS = ("params", "a", "value")
PLAIN: dict[str, Any] = {"chunks": [3, 8, 5], "compressor": {"id": "zstd", "level": 1}}
# Chunks of 480 bytes, which zstd hardly shortens, so none is stored in the tree itself.
ARRAY = np.random.default_rng(0).standard_normal((6, 8, 10), np.float32)


def opened(folder: Path, array: np.ndarray = ARRAY, metadata: dict[str, Any] = PLAIN, driver: str = "zarr") -> Any:
    """Write an array as a checkpoint stores it, and open it for reading."""
    (folder / "_METADATA").write_text(json.dumps({"use_ocdbt": True, "use_zarr3": driver == "zarr3"}))
    base = {"driver": "ocdbt", "base": f"file://{folder}/", "path": f"{'.'.join(KEYS)}/"}
    schema = {"schema": {"dtype": array.dtype.name, "domain": {"shape": array.shape}}}
    store = ts.open({"driver": driver, "kvstore": base, "metadata": metadata, **schema}, create=True).result()
    store.write(array).result()
    return open_arrays(folder, {"a": KEYS}, {"a": leaf_of(array)})["a"]


def read(array: StoredArray, dtype: Any) -> np.ndarray:
    """Return the array as one reading gives it."""
    arrays: list[np.ndarray] = []
    with mock.patch.object(stored_arrays, "_PIECE", 1):
        read_all([Reading(array, np.dtype(dtype), 0, np.empty, lambda whole: whole, arrays.append)])
    return arrays[0]


def decoded(array: StoredArray) -> list[bool]:
    """Return for every piece whether it is decoded without tensorstore."""
    target = np.empty(array.leaf.shape, array.leaf.dtype)
    with mock.patch.object(stored_arrays, "_PIECE", 1):
        return [array._decode(piece, target[piece]) for piece in array.pieces()]


def data_file(folder: Path) -> Path:
    """Return the file with all chunks, which were written at once."""
    return max((folder / "d").iterdir(), key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("block", [4, 40, 1 << 19])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float64])
def test_every_number_lands_in_its_place(tmp_path: Path, block: int, dtype: Any) -> None:
    """Chunks that are not contiguous in the array are decoded into it with blocks of any length."""
    array = opened(tmp_path)
    with mock.patch.multiple(chunk_files, _READ=7, _BLOCK=block):
        assert decoded(array) == [True] * 4
        restored = read(array, dtype)
    np.testing.assert_array_equal(restored, ARRAY.astype(dtype), strict=True)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.int16, np.float64])
def test_any_dtype_is_decoded(tmp_path: Path, dtype: Any) -> None:
    """Stored dtypes other than float32 are decoded too."""
    numbers = (1000 * ARRAY).astype(dtype)
    array = opened(tmp_path, numbers)
    assert all(decoded(array))
    np.testing.assert_array_equal(read(array, dtype), numbers, strict=True)


def test_too_large_numbers_become_infinite_silently(tmp_path: Path) -> None:
    """A cast while decoding behaves like numpy's."""
    array = opened(tmp_path, np.full_like(ARRAY, 1e38))
    assert np.isinf(read(array, np.float16)).all()


@pytest.mark.parametrize(
    "metadata",
    [
        {"compressor": None},
        {"compressor": {"id": "zlib", "level": 1}},
        {"order": "F"},
        {"dtype": ">f4"},
        {"chunks": [4, 8, 5]},
        {"chunks": [8, 8, 8]},
    ],
    ids=["plain", "zlib", "fortran", "big_endian", "cut", "larger"],
)
def test_other_encodings_are_left_to_tensorstore(tmp_path: Path, metadata: dict[str, Any]) -> None:
    """Chunks without zstd, in another byte order, or that do not divide the array, are still read."""
    array = opened(tmp_path, metadata=PLAIN | metadata)
    assert not any(decoded(array))
    np.testing.assert_array_equal(read(array, np.float32), ARRAY, strict=True)


def test_without_zstandard_all_is_left_to_tensorstore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the zstandard package, whole chunks take more time and memory, and have the same numbers."""
    monkeypatch.setattr(chunk_files, "zstandard", None)
    array = opened(tmp_path)
    assert not any(decoded(array))
    np.testing.assert_array_equal(read(array, np.float32), ARRAY, strict=True)


def test_zarr3_is_left_to_tensorstore(tmp_path: Path) -> None:
    """The newer format has its own codecs."""
    array = opened(tmp_path, metadata={}, driver="zarr3")
    assert not any(decoded(array))
    np.testing.assert_array_equal(read(array, np.float32), ARRAY, strict=True)


def test_small_neighbors_are_left_to_tensorstore(tmp_path: Path) -> None:
    """A piece of several chunks is read as a whole."""
    array = opened(tmp_path)
    assert len(array.pieces()) == 1
    assert not array._decode(array.pieces()[0], np.empty_like(ARRAY))


def test_chunks_in_the_tree_are_left_to_tensorstore(tmp_path: Path) -> None:
    """A chunk of a few bytes is not in a data file."""
    array = opened(tmp_path, ARRAY[:3, :1, :5], PLAIN | {"chunks": [3, 1, 5]})
    assert decoded(array) == [False]
    np.testing.assert_array_equal(read(array, np.float32), ARRAY[:3, :1, :5], strict=True)


def test_decoding_needs_memory_for_its_target_and_some_blocks(tmp_path: Path) -> None:
    """A chunk that is decoded block by block does not take the memory of the whole chunk."""
    array = opened(tmp_path)
    plain = StoredArray(array.store, array.leaf)
    with mock.patch.object(stored_arrays, "_PIECE", 1), mock.patch.object(stored_arrays, "TAKEN", 7):
        piece = array.pieces()[0]
        assert array.bytes_to_read(piece, np.dtype(np.float16)) == 2 * 120 + 7
        assert plain.bytes_to_read(piece, np.dtype(np.float16)) == 2 * 4 * 120


@pytest.mark.parametrize("damage", ["truncated", "gone", "flipped"])
def test_damage_is_reported_by_tensorstore(tmp_path: Path, damage: str) -> None:
    """Chunks that cannot be decoded are tried by tensorstore, whose error names the array."""
    array = opened(tmp_path)
    file = data_file(tmp_path)
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:100] if damage == "truncated" else bytes(file.stat().st_size))
    assert not all(decoded(array))
    with pytest.raises(ValueError, match=r"params\.a\.value"):
        read(array, np.float32)


def frame(count: int = 120) -> bytes:
    """Return a zstd chunk of `count` numbers."""
    return zstandard.compress(np.arange(count, dtype=np.float32).tobytes())


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        (frame(), True),
        (frame(119), False),
        (frame(121), False),
        (frame() + b"more", False),
        (frame() + frame(), False),
        (frame()[:-1], False),
        (b"", False),
    ],
    ids=["whole", "short", "long", "followed", "twice", "cut", "empty"],
)
def test_a_chunk_is_one_frame_of_its_size(tmp_path: Path, value: bytes, whole: bool) -> None:
    """Any other bytes are not accepted as the chunk."""
    (tmp_path / "data").write_bytes(b"before" + value + b"after")
    places = {b"a/0": f"value::data:6:{len(value)}"}
    target = np.zeros(120, np.float32)
    files = chunk_files.ChunkFiles(tmp_path, places, "a/", ".")
    assert files.decode((0,), target, target.dtype) == whole
    if whole:
        np.testing.assert_array_equal(target, np.arange(120))


@pytest.mark.parametrize("names", [":data", "%2e%2e/:data", "..:/data", "{outside}/:data", ":a/../../data"])
def test_places_outside_of_the_folder_are_ignored(tmp_path: Path, names: str) -> None:
    """A store cannot make the reader open a file outside of it."""
    (tmp_path / "data").write_bytes(frame())
    (tmp_path / "store").mkdir()
    place = f"value:{names.format(outside=tmp_path)}:0:{len(frame())}"
    files = chunk_files.ChunkFiles(tmp_path / "store", {b"a/0": place}, "a/", ".")
    assert not files.decode((0,), np.zeros(120, np.float32), np.dtype(np.float32))


def test_an_unreadable_store_has_no_places(tmp_path: Path) -> None:
    """Its arrays are left to tensorstore and its errors."""
    (tmp_path / "manifest.ocdbt").write_bytes(b"no manifest")
    assert chunk_files.places(tmp_path) == {}


def test_a_tree_of_several_nodes_has_no_places(tmp_path: Path) -> None:
    """Only the root node is read; all of a checkpoint's keys fit into it."""
    small = {"max_decoded_node_bytes": 200, "max_inline_value_bytes": 1}
    store = ts.KvStore.open({"driver": "ocdbt", "base": f"file://{tmp_path}/", "config": small}).result()
    for number in range(50):
        store.write(f"{number}", b"value").result()
    assert chunk_files.places(tmp_path) == {}


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 40), st.booleans())
def test_parts_are_the_whole_in_its_order(shape: list[int], size: int, transposed: bool) -> None:
    """In order, the parts of an array have each of its numbers once, and none exceeds the limit."""
    array = np.arange(np.prod(shape)).reshape(shape)
    array = array.T if transposed else array
    parts = list(chunk_files._parts(array, size))
    assert all(0 < part.size <= size for part in parts)
    assert all(np.shares_memory(part, array) for part in parts)
    joined = functools.reduce(np.append, [part.reshape(-1) for part in parts])
    np.testing.assert_array_equal(joined, array.reshape(-1))
