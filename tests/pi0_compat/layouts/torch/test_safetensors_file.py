"""The safetensors format: written files are read back, and a file that breaks a rule is refused before reading."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.writers import safetensors_file as fixture
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.torch.safetensors_file import DTYPES, open_safetensors, write_safetensors
from pi0_compat.params import Leaf, Params, leaf_of, leaves_of
from suite.writing.asserts import assert_same_bits

TENSORS: Params = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(4, dtype=np.float16)}


def read_all(path: Path) -> Params:
    with open_safetensors(path) as file:
        return {name: np.array(file.read(name)) for name in file.leaves}


def written(tensors: Params, folder: str | Path) -> Path:
    path = Path(folder) / "model.safetensors"
    write_safetensors(path, leaves_of(tensors), tensors.items(), metadata={"format": "pt"})
    return path


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 3), max_size=3)), min_size=1, max_size=5
    ),
    st.integers(0, 99),
)
def test_any_tensors_round_trip(kinds: list[tuple[str, list[int]]], seed: int) -> None:
    random = np.random.default_rng(seed)
    tensors = {}
    for number, (code, shape) in enumerate(kinds):
        size = int(np.prod(shape, dtype=int)) * DTYPES[code].itemsize
        raw = random.integers(0, 2, size, np.uint8) if code == "BOOL" else random.integers(0, 256, size, np.uint8)
        tensors[f"t{number}"] = raw.view(DTYPES[code]).reshape(shape)
    with tempfile.TemporaryDirectory() as folder:
        assert_same_bits(read_all(written(tensors, folder)), tensors)


def test_reads_what_the_fixture_writes_and_the_other_way_round(tmp_path: Path) -> None:
    fixture.write(TENSORS, tmp_path / "theirs.safetensors")
    assert_same_bits(read_all(tmp_path / "theirs.safetensors"), TENSORS)
    assert_same_bits(fixture.read(written(TENSORS, tmp_path)), TENSORS)


def test_views_in_any_order_are_written_by_value(tmp_path: Path) -> None:
    tensors = {"turned": TENSORS["a"].T, "reversed": TENSORS["b"][::-1], "scalar": np.float32(3).reshape(())}
    assert_same_bits(read_all(written(tensors, tmp_path)), tensors)


def test_wide_tensors_go_first_and_the_data_is_aligned(tmp_path: Path) -> None:
    raw = written({"b": TENSORS["b"], "a": TENSORS["a"]}, tmp_path).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0
    assert list(json.loads(raw[8 : 8 + length])) == ["__metadata__", "a", "b"]


def test_reading_copies_nothing(tmp_path: Path) -> None:
    with open_safetensors(written(TENSORS, tmp_path)) as file:
        array = file.read("a")
    assert not array.flags.writeable
    while not isinstance(array, np.memmap):
        assert isinstance(array.base, np.ndarray), "the values are in memory of their own"
        array = array.base
    assert array.nbytes == TENSORS["a"].nbytes, "more of the file is held than the one tensor"


def test_metadata_are_read_back(tmp_path: Path) -> None:
    with open_safetensors(written(TENSORS, tmp_path)) as file:
        assert file.metadata == {"format": "pt"}


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("mine")
    with pytest.raises(FileExistsError):
        written(TENSORS, tmp_path)
    assert (tmp_path / "model.safetensors").read_text() == "mine"


def test_an_array_that_differs_from_its_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a: expected float32\[3, 2\], found float32\[2, 3\]"):
        write_safetensors(tmp_path / "x", {"a": Leaf((3, 2), np.dtype(np.float32))}, [("a", TENSORS["a"])])


def test_an_incomplete_tensor_is_refused(tmp_path: Path) -> None:
    leaf, rows = Leaf((3, 2), np.dtype(np.float32)), np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match=r"a: expected float32\[3, 2\], of which 8 bytes were not given"):
        write_safetensors(tmp_path / "x", {"a": leaf}, [("a", rows)])
    with pytest.raises(ValueError, match=r"a: expected float32\[3, 2\], found float32\[2, 2\]"):
        write_safetensors(tmp_path / "y", {"a": leaf}, [("a", rows), ("a", rows)])


def test_parts_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    arrays = {"a": np.arange(300.0).reshape(100, 3), "b": np.arange(40.0, dtype=np.float32).reshape(4, 10).T}
    write_safetensors(tmp_path / "x", leaves_of(arrays), arrays.items())
    parts = [("b", arrays["b"][:7]), ("a", arrays["a"][:1]), ("a", arrays["a"][1:]), ("b", arrays["b"][7:])]
    write_safetensors(tmp_path / "y", leaves_of(arrays), parts)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    with open_safetensors(tmp_path / "y") as file:
        assert_same_bits({name: file.read(name) for name in arrays}, arrays)


def test_a_dtype_without_a_name_is_refused(tmp_path: Path) -> None:
    array = np.zeros(2, np.complex64)
    with pytest.raises(ValueError, match="z: safetensors has no dtype complex64"):
        write_safetensors(tmp_path / "x", {"z": leaf_of(array)}, [("z", array)])


def file_of(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


DAMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is no safetensors file"),
    "header_beyond_the_file": (file_of({"a": entry()}, bytes(8), length=2**10), "header of 1024 bytes"),
    "header_cut": (file_of({"a": entry()})[:-5], "is no safetensors file"),
    "no_json": (file_of(b"\xff\xfe{}"), "header is damaged"),
    "deep_json": (file_of(b"[" * 2_000), "header is damaged"),
    "a_list": (file_of([1]), "the header is a list"),
    "one_name_twice": (file_of(b'{"a": 1, "a": 2}'), "a is there twice"),
    "no_shape": (file_of({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)), "a is {'dtype'"),
    "unknown_dtype": (file_of({"a": entry(dtype="F4")}, bytes(8)), "a has dtype 'F4'"),
    "negative_shape": (file_of({"a": entry(shape=[-2])}, bytes(8)), "expected whole numbers"),
    "true_for_one": (file_of({"a": entry(shape=[True, 2])}, bytes(8)), "expected whole numbers"),
    "shape_of_more_bytes": (file_of({"a": entry(shape=[2**10, 2**10])}, bytes(8)), "but has 8 bytes"),
    "begin_after_end": (file_of({"a": entry(data_offsets=[8, 0])}, bytes(8)), "but has -8 bytes"),
    "hole": (file_of({"a": entry(), "b": entry(data_offsets=[12, 20])}, bytes(20)), "b comes after a hole"),
    "overlap": (file_of({"a": entry(), "b": entry(data_offsets=[4, 12])}, bytes(12)), "b overlaps"),
    "truncated": (file_of({"a": entry()}, bytes(7)), "truncated"),
    "more_data": (file_of({"a": entry()}, bytes(9)), "not whole"),
    "number_in_metadata": (file_of({"__metadata__": {"format": 1}}), "expected strings by name"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_rule_is_refused(tmp_path: Path, damage: str) -> None:
    raw, message = DAMAGES[damage]
    (tmp_path / "x.safetensors").write_bytes(raw)
    with pytest.raises(CheckpointError) as caught, open_safetensors(tmp_path / "x.safetensors"):
        pass
    assert str(tmp_path / "x.safetensors") in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(("make", "actual"), [(Path.mkdir, "a folder"), (lambda path: None, "nothing")])
def test_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None], actual: str) -> None:
    make(tmp_path / "x.safetensors")
    with (
        pytest.raises(CheckpointError, match=f"expected a safetensors file, found {actual}"),
        open_safetensors(tmp_path / "x.safetensors"),
    ):
        pass
