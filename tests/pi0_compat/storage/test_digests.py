"""Digests of parameters: what they depend on, and checkpoints without them."""

from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_compat.errors import CheckpointError
from pi0_compat.params import leaves_of
from pi0_compat.storage import digests as integrity

FOLDER = Path("run/params")
ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_digests_of_saved_checkpoints_do_not_change() -> None:
    """The digest of an array is part of the format: this value has been in checkpoints from the start."""
    assert integrity.digest(ARRAY) == "4a4c3e33896b7ac24144d526244dab63fba9df50bc2c2d299cd97bb2710885f8"


@pytest.mark.parametrize(
    "other",
    [ARRAY.astype(np.float64), ARRAY.view(np.int32), ARRAY.reshape(3, 2), ARRAY.reshape(-1), -ARRAY, ARRAY[::-1]],
    ids=["width", "kind", "shape", "axes", "sign_of_zero_too", "order"],
)
def test_another_array_has_another_digest(other: np.ndarray) -> None:
    """Dtype, shape, sign, order and values all count."""
    assert integrity.digest(other) != integrity.digest(ARRAY)


@pytest.mark.parametrize(
    "same",
    [np.asfortranarray(ARRAY), ARRAY.astype(">f4"), np.repeat(ARRAY, 2, axis=1)[:, ::2], jax.numpy.asarray(ARRAY)],
    ids=["fortran_order", "big_endian", "strided", "jax"],
)
def test_the_memory_layout_does_not_matter(same: Any) -> None:
    """Memory order, byte order and the array's library are not part of the digest."""
    assert integrity.digest(same) == integrity.digest(ARRAY)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.int8, np.bool_, np.float64])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 1)])
def test_any_dtype_and_shape_has_a_digest(dtype: Any, shape: tuple[int, ...]) -> None:
    """Scalars, empty arrays and narrow dtypes have digests, and equal arrays have the same one."""
    assert integrity.digest(np.ones(shape, dtype)) == integrity.digest(np.ones(shape, dtype))


def test_objects_have_no_digest() -> None:
    """An array of Python objects is refused: its bytes are addresses."""
    with pytest.raises(TypeError):
        integrity.digest(np.array([object()]))


@given(st.integers(0, 5), st.integers(0, 2**8 - 1))
def test_any_flipped_bit_is_found(position: int, pattern: int) -> None:
    """Other bits anywhere in an array give another digest."""
    damaged = ARRAY.copy()
    damaged.reshape(-1).view(np.uint8)[position * 4] ^= pattern
    assert (integrity.digest(damaged) == integrity.digest(ARRAY)) == (pattern == 0)


def test_all_different_parameters_are_named() -> None:
    """The error has every parameter that differs, and no other one."""
    params = {"a": ARRAY, "b": ARRAY, "c": ARRAY}
    recorded = integrity.digests_of({"a": -ARRAY, "b": ARRAY, "c": ARRAY + 1})
    with pytest.raises(CheckpointError, match=r"(?s)^run/params: damaged.*verify=False\n  ~ a: .*\n  ~ c: ") as caught:
        integrity.verify(FOLDER, integrity.digests_of(params), recorded)
    assert "~ b" not in str(caught.value)


def test_parameters_without_a_digest_are_ignored() -> None:
    """A parameter without a recorded digest is not compared with anything."""
    integrity.verify(FOLDER, {"a": "1"}, {"b": "0"})


class OfAnotherHost:
    """A jax array that this process holds only partly."""

    is_fully_addressable = False


def test_arrays_of_several_processes_have_no_digest() -> None:
    """No single process can compute the digest of an array that is spread over several."""
    assert integrity.digests_of({"a": OfAnotherHost(), "b": ARRAY}).keys() == {"b"}


def test_a_record_is_read_back() -> None:
    """Recorded digests are read back through JSON's types."""
    params = {"a": ARRAY, "b": ARRAY + 1}
    metadata = {"digests": integrity.record(params)}
    assert integrity.read_record(FOLDER, metadata, leaves_of(params)) == integrity.digests_of(params)


@pytest.mark.parametrize("metadata", [{}, {"digests": None}, {"digests": {"algorithm": "crc64", "leaves": {"a": "0"}}}])
def test_unknown_records_are_ignored(metadata: dict[str, Any]) -> None:
    """Without a record, or with one of an unknown algorithm, there are no digests."""
    assert integrity.read_record(FOLDER, metadata, {}) == {}


def test_a_damaged_record_is_refused() -> None:
    """A record of the known algorithm without digests is damage."""
    with pytest.raises(CheckpointError, match=r"^run/params: damaged: the record of digests is 'x'"):
        integrity.read_record(FOLDER, {"digests": {"algorithm": integrity.ALGORITHM, "leaves": "x"}}, {})


def test_a_recorded_parameter_that_is_missing_is_named() -> None:
    """A parameter that has a digest but is missing in the checkpoint was lost."""
    metadata = {"digests": integrity.record({"a": ARRAY, "b": ARRAY})}
    with pytest.raises(CheckpointError, match=r"^run/params: damaged: .*\n  - b$"):
        integrity.read_record(FOLDER, metadata, leaves_of({"a": ARRAY}))


@pytest.mark.parametrize(
    ("digests", "verified", "expected"),
    [
        ({"a": "0", "b": "1"}, True, ()),
        ({"a": "0"}, True, ("integrity was not checked of 1 parameters without a digest",)),
        ({}, True, (integrity.NOT_RECORDED,)),
        ({"a": "0", "b": "1"}, False, (integrity.NOT_ASKED,)),
    ],
    ids=["all", "some", "none", "not_asked"],
)
def test_unchecked_parameters_are_reported(digests: dict[str, str], verified: bool, expected: tuple[str, ...]) -> None:
    """A report says how much was not checked and why, or nothing if all was checked."""
    assert integrity.notes(digests, ["a", "b"], verified=verified) == expected
