"""Arrays read chunk by chunk: which parts are read at a time, what is rejected, and where the bytes go."""

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

from fixtures.old_checkpoints import CHECKPOINTS, FOLDER
from fixtures.old_checkpoints import params as old_params
from pi0_compat.layouts.orbax import address
from pi0_compat.layouts.orbax import arrays as stored_arrays
from pi0_compat.layouts.orbax.arrays import Reading, StoredArray, aligned, open_arrays, read_all
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.params import Leaf, leaf_of
from suite.writing.asserts import assert_same_bits

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
    ("key", "leaf", "message"),
    [
        ("b", leaf_of(ARRAY), r"params\.b\.value.* does not exist"),
        ("a", Leaf((5, 6), ARRAY.dtype), r"a: the metadata claim float32\[5, 6\], float32\[6, 5\] is stored"),
        ("a", Leaf(ARRAY.shape, np.dtype(np.float16)), "a: the metadata claim float16"),
    ],
    ids=["missing", "other_shape", "other_dtype"],
)
def test_an_array_unlike_its_metadata_is_rejected(tmp_path: Path, key: str, leaf: Leaf, message: str) -> None:
    """An array that is missing, or is not what the metadata claim, is an error that names it."""
    store(tmp_path / "params", ARRAY)
    with pytest.raises(ValueError, match=message):
        open_arrays(tmp_path / "params", {"a": ("params", key, "value")}, {"a": leaf})


def test_an_array_without_values_is_not_opened(tmp_path: Path) -> None:
    """Nothing is stored of an array without values, so there is nothing to open."""
    (tmp_path / "_METADATA").write_text("{}")
    assert not open_arrays(tmp_path, {"a": KEYS}, {"a": Leaf((0, 3), ARRAY.dtype)})


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_arrays_of_old_orbax_keep_their_bits(name: str) -> None:
    """One store, or a folder for each array: what old orbax wrote is opened and read without orbax."""
    stored = read_metadata(FOLDER / name)
    arrays = open_arrays(FOLDER / name, stored.keys, stored.leaves)
    found = {path: read(array, array.leaf.dtype) for path, array in arrays.items()}
    assert_same_bits(found, old_params())


@pytest.mark.parametrize("key", ["../a", "a/../../b"])
def test_a_name_that_leads_out_of_the_folder_is_rejected(tmp_path: Path, key: str) -> None:
    """The name of an array is part of a path, so one that climbs out of the folder is not followed."""
    (tmp_path / "_METADATA").write_text("{}")
    with pytest.raises(ValueError, match="leads out of the folder"):
        open_arrays(tmp_path, {"a": (f"x/{key}",)}, {"a": leaf_of(ARRAY)})


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
    with mock.patch.object(address, "_mapped", dict):
        array = open_arrays(tmp_path / "params", {"a": KEYS}, {"a": leaf_of(ARRAY)})["a"]
        np.testing.assert_array_equal(read(array, np.float32), ARRAY, strict=True)


@given(st.lists(st.integers(0, 5), max_size=3), st.sampled_from([np.float32, ml_dtypes.bfloat16, np.int8]))
def test_jax_can_take_over_aligned_memory(shape: list[int], dtype: Any) -> None:
    """An aligned array starts where jax on the CPU needs it to, and is otherwise normal."""
    array = aligned(tuple(shape), np.dtype(dtype))
    assert array.ctypes.data % 64 == 0 or not array.size
    assert (array.shape, array.dtype, array.flags.c_contiguous) == (tuple(shape), np.dtype(dtype), True)
