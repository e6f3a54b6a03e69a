"""Arrays read chunk by chunk: which parts are read at a time, and what is left to orbax."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
import tensorstore as ts
from hypothesis import given
from hypothesis import strategies as st

from pi0_compat.layouts.orbax import arrays as stored_arrays
from pi0_compat.layouts.orbax.arrays import Reading, StoredArray, aligned, open_arrays, read_all
from pi0_compat.params import Leaf, leaf_of

KEYS = ("params", "a", "value")
ARRAY = np.random.default_rng(0).standard_normal((6, 5), np.float32)


def store(folder: Path, array: np.ndarray, *, driver: str = "zarr", chunk: tuple[int, ...] = (4, 2)) -> Any:
    """Write a checkpoint's folder with one array in several chunks, as orbax does."""
    folder.mkdir(exist_ok=True)
    metadata = {"use_ocdbt": True, "use_zarr3": driver == "zarr3", "store_array_data_equal_to_fill_value": True}
    (folder / "_METADATA").write_text(json.dumps(metadata))
    name = ".".join(KEYS)
    spec = {"driver": driver, "kvstore": {"driver": "ocdbt", "base": f"file://{folder}/", "path": f"{name}/"}}
    layout = ts.ChunkLayout(chunk_shape=chunk)
    opened = ts.open(spec, create=True, dtype=ts.dtype(array.dtype), shape=array.shape, chunk_layout=layout).result()
    opened.write(array).result()
    return opened


def read(array: StoredArray, dtype: Any) -> np.ndarray:
    """Return the array as one reading gives it."""
    arrays: list[np.ndarray] = []
    read_all([Reading(array, np.dtype(dtype), 0, np.empty, lambda whole: whole, arrays.append)])
    return arrays[0]


@given(st.data(), st.integers(1, 3))
def test_pieces_are_whole_chunks_and_cover_everything_once(data: st.DataObject, rank: int) -> None:
    """Every number is in one piece; a piece ends where a chunk ends, and exceeds a chunk only if small."""
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=rank, max_size=rank)))
    chunk = tuple(data.draw(st.lists(st.integers(1, 9), min_size=rank, max_size=rank)))
    layout = SimpleNamespace(read_chunk=SimpleNamespace(shape=chunk))
    array = StoredArray(SimpleNamespace(chunk_layout=layout), Leaf(shape, np.dtype(np.int8)))
    covered = np.zeros(shape, int)
    with mock.patch.object(stored_arrays, "_PIECE", 20):
        pieces = array.pieces()
    for piece in pieces:
        covered[piece] += 1
        assert all(part.start % side == 0 for part, side in zip(piece, chunk, strict=True))
        assert covered[piece].size <= max(20, int(np.prod(np.minimum(shape, chunk))))
    assert (covered == 1).all()


def test_small_neighbors_are_one_piece() -> None:
    """A million chunks of one number each are not a million pieces."""
    layout = SimpleNamespace(read_chunk=SimpleNamespace(shape=(1, 1)))
    array = StoredArray(SimpleNamespace(chunk_layout=layout), Leaf((1000, 1000), np.dtype(np.float32)))
    assert len(array.pieces()) == 1


@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float64])
def test_every_chunk_lands_in_its_place(tmp_path: Path, driver: str, dtype: Any) -> None:
    """An array of several pieces is restored as written, cast, from either version of zarr."""
    store(tmp_path / "params", ARRAY, driver=driver)
    arrays = open_arrays(tmp_path / "params", {"a": KEYS}, {"a": leaf_of(ARRAY)})
    with mock.patch.object(stored_arrays, "_PIECE", 1):
        assert len(arrays["a"].pieces()) == 6
        restored = read(arrays["a"], dtype)
    np.testing.assert_array_equal(restored, ARRAY.astype(dtype), strict=True)


@pytest.mark.parametrize(
    ("key", "leaf"),
    [("b", leaf_of(ARRAY)), ("a", Leaf((5, 6), ARRAY.dtype)), ("a", Leaf(ARRAY.shape, np.dtype(np.float16)))],
    ids=["not_there", "other_shape", "other_dtype"],
)
def test_an_array_that_differs_from_its_metadata_is_left_to_orbax(tmp_path: Path, key: str, leaf: Leaf) -> None:
    """An array that is missing, or differs from the metadata, is not opened: orbax reports the error."""
    store(tmp_path / "params", ARRAY)
    assert not open_arrays(tmp_path / "params", {"a": ("params", key, "value")}, {"a": leaf})


def test_one_folder_for_each_array_is_left_to_orbax(tmp_path: Path) -> None:
    """A checkpoint without one common store, as old orbax wrote it, is not opened."""
    (tmp_path / "_METADATA").write_text("{}")
    assert not open_arrays(tmp_path, {"a": KEYS}, {"a": leaf_of(ARRAY)})


def test_a_missing_chunk_is_an_error(tmp_path: Path) -> None:
    """Since all chunks are written, a missing one does not mean zeros."""
    opened = store(tmp_path / "params", ARRAY)
    opened.kvstore.delete_range(ts.KvStore.KeyRange(b"0.1", b"0.2")).result()
    array = open_arrays(tmp_path / "params", {"a": KEYS}, {"a": leaf_of(ARRAY)})["a"]
    with pytest.raises(ValueError, match="missing"):
        read(array, np.float32)


def test_files_are_read_where_they_cannot_be_mapped(tmp_path: Path) -> None:
    """If tensorstore cannot map files, the same arrays are read."""
    store(tmp_path / "params", ARRAY)
    with mock.patch.object(stored_arrays, "_mapped", dict):
        array = open_arrays(tmp_path / "params", {"a": KEYS}, {"a": leaf_of(ARRAY)})["a"]
        np.testing.assert_array_equal(read(array, np.float32), ARRAY, strict=True)


@given(st.lists(st.integers(0, 5), max_size=3), st.sampled_from([np.float32, ml_dtypes.bfloat16, np.int8]))
def test_jax_can_take_over_aligned_memory(shape: list[int], dtype: Any) -> None:
    """An aligned array starts where jax on the CPU needs it to, and is otherwise normal."""
    array = aligned(tuple(shape), np.dtype(dtype))
    assert array.ctypes.data % 64 == 0 or not array.size
    assert (array.shape, array.dtype, array.flags.c_contiguous) == (tuple(shape), np.dtype(dtype), True)
