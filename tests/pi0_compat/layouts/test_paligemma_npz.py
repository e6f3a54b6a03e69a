"""Reading the official PaliGemma npz: three dtypes, damage, and pickles that are never run."""

import contextlib
import io
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.content import DTYPES
from fixtures.damage.operations.files import with_a_flipped_bit
from fixtures.writers import openpi_layout, paligemma_npz
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.paligemma_npz import _param_path, open_npz
from pi0_compat.params import Params, leaves_of
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.tiny_models import BASE_SPEC

MEMBER = "params/llm/final_norm/scale"
PATH = "PaliGemma/llm/final_norm/scale"


NOTES: list[str] = []


class Note:
    """Add a note to ``NOTES`` when unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return leave, ("unpickled",)


def leave(note: str) -> None:
    NOTES.append(note)


def npy(array: np.ndarray, *, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=True)
    return file.getvalue()


def write(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def read_all(path: Path) -> Params:
    with open_npz(path) as npz:
        return {name: npz.read(name) for name in npz.leaves}


def one(tmp_path: Path, data: bytes) -> Path:
    """Write an npz whose only member has these bytes."""
    return write(tmp_path / "pt_224.npz", {f"{MEMBER}.npy": data})


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_come_in_the_dtype_of_the_file(tmp_path: Path, dtype: str) -> None:
    """float32, float16 and bfloat16 are read bit for bit; bfloat16 is not read as void."""
    written = paligemma_npz.build(BASE_SPEC, tmp_path / "pt_224.npz", dtype=dtype)
    assert_same_bits(read_all(tmp_path / "pt_224.npz"), written)


@pytest.mark.parametrize("dtype", DTYPES)
def test_leaves_are_known_before_an_array_is_read(tmp_path: Path, dtype: str) -> None:
    """Paths, shapes and dtypes come from the headers, sorted by path."""
    written = paligemma_npz.build(BASE_SPEC, tmp_path / "pt_224.npz", dtype=dtype)
    with open_npz(tmp_path / "pt_224.npz") as npz:
        assert npz.leaves == leaves_of(written)
        assert list(npz.leaves) == sorted(written)


@given(st.sampled_from(sorted(openpi_layout.paligemma_shapes(BASE_SPEC))))
def test_members_land_below_paligemma(path: str) -> None:
    """Every member of a release has openpi's path."""
    assert _param_path(f"{paligemma_npz.member(path)}.npy") == path


@pytest.mark.parametrize("name", ["opt/0/count.npy", "opt/params/llm/w.npy", "step"])
def test_other_members_are_kept_apart(name: str) -> None:
    """Members outside ``params/`` are not parameters of PaliGemma."""
    assert not _param_path(name).startswith("PaliGemma/")


@pytest.mark.parametrize(
    "array",
    [
        np.float32(1.5).reshape(()),
        np.zeros((0, 3), np.float32),
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        np.arange(3, dtype=">f4"),
    ],
    ids=["zero_dim", "empty", "fortran_order", "big_endian"],
)
def test_unusual_arrays_are_read(tmp_path: Path, array: np.ndarray) -> None:
    """Scalars, empty arrays, Fortran order and the other byte order are read with their values."""
    restored = read_all(one(tmp_path, npy(array)))[PATH]
    np.testing.assert_array_equal(restored, array, strict=True)


def test_a_zero_dim_bfloat16_is_read(tmp_path: Path) -> None:
    """A bfloat16 scalar is read, although numpy stores it as two raw bytes."""
    array = np.array(1.5, ml_dtypes.bfloat16)
    assert_same_bits(read_all(one(tmp_path, npy(array))), {PATH: array})


def test_a_fortran_ordered_bfloat16_is_read(tmp_path: Path) -> None:
    """The order of a bfloat16 array is kept while its bytes are reinterpreted."""
    array = np.asfortranarray(np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16))
    restored = read_all(one(tmp_path, npy(array)))[PATH]
    np.testing.assert_array_equal(restored, array, strict=True)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_npy_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    """Members may have any of numpy's header versions."""
    array = np.ones(3, np.float32)
    assert_same_bits(read_all(one(tmp_path, npy(array, version=version))), {PATH: array})


def test_compressed_members_are_read(tmp_path: Path) -> None:
    """``numpy.savez_compressed`` writes npz files too."""
    with zipfile.ZipFile(tmp_path / "pt_224.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{MEMBER}.npy", npy(np.ones(3, np.float32)))
    assert_same_bits(read_all(tmp_path / "pt_224.npz"), {PATH: np.ones(3, np.float32)})


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_all(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    """A member of pickled objects is refused by name, and the note that unpickling would leave is not there."""
    path = one(tmp_path, npy(np.array([Note()], dtype=object)))
    assert f"{MEMBER}.npy holds pickled objects, which are never loaded" in refusal(path)
    assert not NOTES


def test_a_pickle_under_another_header_is_never_run(tmp_path: Path) -> None:
    """A pickle whose header claims floats may be read as bytes or refused, but it is not run."""
    forged = npy(np.array([Note()], dtype=object)).replace(b"'|O'", b"'f4'", 1)
    with contextlib.suppress(CheckpointError):
        read_all(one(tmp_path, forged))
    assert not NOTES


def test_a_structured_array_of_objects_is_refused(tmp_path: Path) -> None:
    """Objects inside a record are pickled too."""
    array = np.array([(1.0, None)], dtype=[("a", "f4"), ("b", "O")])
    assert "pickled objects" in refusal(one(tmp_path, npy(array)))


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    """An archive that ends early, at any point, is refused with the advice to get it again."""
    path = one(tmp_path, npy(np.ones(100, np.float32)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if keep == 0.5 else int(keep)])
    assert "get the file again" in refusal(path)


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    """The archive's checksum detects a single changed bit, and the member is named."""
    path = one(tmp_path, npy(np.ones(500, np.float32)))
    with_a_flipped_bit(path)
    assert f"{MEMBER}.npy is damaged" in refusal(path)


@pytest.mark.parametrize("change", [-4, -1], ids=["one_number_less", "one_byte_less"])
def test_a_member_with_too_little_data_is_refused(tmp_path: Path, change: int) -> None:
    """A header that promises too much data is refused by the member's name."""
    assert MEMBER in refusal(one(tmp_path, npy(np.ones(5, np.float32))[:change]))


def test_a_member_with_too_much_data_is_refused(tmp_path: Path) -> None:
    """Data beyond the header's shape is damage: the shape may be wrong."""
    assert MEMBER in refusal(one(tmp_path, npy(np.ones(5, np.float32)) + bytes(4)))


@pytest.mark.parametrize(
    "data",
    [b"", b"not an array", b"\x93NUMPY", b"\x93NUMPY\x01\x00" + struct.pack("<H", 9) + b"{'shape':"],
    ids=["empty", "text", "magic_only", "broken_header"],
)
def test_a_member_that_is_no_array_is_refused(tmp_path: Path, data: bytes) -> None:
    """Bytes that are no npy file are refused by the member's name."""
    assert MEMBER in refusal(one(tmp_path, data))


def test_a_header_that_is_code_is_refused(tmp_path: Path) -> None:
    """A header is a literal: an expression in it is damage and is not evaluated."""
    header = b"{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (1,)}\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(4)
    assert MEMBER in refusal(one(tmp_path, data))


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    """A member that needs a password is refused like any other that cannot be read."""
    path = one(tmp_path, npy(np.ones(5, np.float32)))
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    assert MEMBER in refusal(path)


def test_two_members_for_one_parameter_are_refused(tmp_path: Path) -> None:
    """If two members are the same parameter, the archive does not say which one counts."""
    path = write(tmp_path / "pt_224.npz", {f"{MEMBER}.npy": npy(np.ones(3, np.float32))})
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a duplicate name
        archive.writestr(f"{MEMBER}.npy", npy(np.zeros(3, np.float32)))
    refusal(path)


@pytest.mark.parametrize(("kind", "actual"), [("folder", "a folder"), ("nothing", "nothing")])
def test_a_path_without_a_file_is_refused(tmp_path: Path, kind: str, actual: str) -> None:
    """The error says whether a folder or nothing is in place of the file."""
    path = tmp_path / "pt_224.npz"
    if kind == "folder":
        path.mkdir()
    assert refusal(path).endswith(f"expected an official PaliGemma npz (pt_224.npz), found {actual}")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    """An npy or a text file under the name of an npz is refused."""
    (tmp_path / "pt_224.npz").write_bytes(npy(np.ones(3)))
    assert "is no npz, or a truncated one" in refusal(tmp_path / "pt_224.npz")


def test_the_archive_is_closed(tmp_path: Path) -> None:
    """After the block nothing can be read, and the file is closed."""
    path = one(tmp_path, npy(np.ones(3, np.float32)))
    with open_npz(path) as npz:
        pass
    with pytest.raises((ValueError, CheckpointError)):
        npz.read(PATH)
