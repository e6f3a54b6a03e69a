"""Every assertion fails where it should, and its message is enough to find the difference."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from suite.writing.asserts import assert_close, assert_different, assert_same_bits, assert_same_paths, refused

ONES = np.ones(3, np.float32)
NANS = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)

BIT_DIFFERENCES: dict[str, tuple[Any, Any, str]] = {
    "signed zero": (np.array([1, -0.0], np.float32), np.array([1, 0.0], np.float32), "1: expected 0.0, found -0.0"),
    "NaN payload": (NANS, NANS[[0, 0]], "flat index 1: expected nan, found nan"),
    "dtype": (ONES.astype(np.float64), ONES, "expected dtype float32, found float64"),
    "bfloat16": (ONES.astype(ml_dtypes.bfloat16), ONES, "expected dtype float32, found bfloat16"),
    "byte order": (ONES.astype(">f4"), ONES, "expected dtype float32, found >f4"),
    "shape": (ONES[None], ONES, "expected shape (3,), found (1, 3)"),
    "scalar": (ONES[0], ONES, "expected shape (3,), found ()"),
    "value": (np.array([1, 1, 2], np.float32), ONES, "flat index 2: expected 1.0, found 2.0"),
}


@pytest.mark.parametrize(("found", "expected", "message"), BIT_DIFFERENCES.values(), ids=BIT_DIFFERENCES)
def test_every_bit_counts(found: np.ndarray, expected: np.ndarray, message: str) -> None:
    """A difference of one bit, of dtype or of shape fails, and the message has path, expected and found."""
    with pytest.raises(AssertionError) as caught:
        assert_same_bits({"a/w": found, "b/w": ONES}, {"a/w": expected, "b/w": ONES})
    assert str(caught.value).startswith("1 of 2 parameters differ\n  ~ a/w: ")
    assert message in str(caught.value)


def test_same_bits_are_the_same() -> None:
    """Equal bits pass, including NaNs, non-contiguous arrays and another order of paths."""
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert_same_bits({"a": NANS, "b": matrix.T}, {"b": matrix.T.copy(), "a": NANS.copy()})


@pytest.mark.parametrize("check", [assert_same_bits, assert_same_paths])
def test_every_path_counts(check: Any) -> None:
    """A missing path and an extra one fail, and both are listed."""
    with pytest.raises(AssertionError) as caught:
        check({"a": ONES, "new": ONES}, {"a": ONES, "old": ONES})
    assert str(caught.value) == "1 paths are missing (-), 1 unexpected (+)\n  - old\n  + new"


def test_long_lists_end_in_a_count() -> None:
    """Of many differences the first twenty are listed and the others counted."""
    with pytest.raises(AssertionError) as caught:
        assert_same_paths(set(), {f"layers/{n:02}" for n in range(22)})
    assert str(caught.value).splitlines()[1:] == [
        *(f"  - layers/{n:02}" for n in range(20)),
        "  ... and 2 more",
    ]


FAR: dict[str, tuple[Any, Any, str]] = {
    "value": ([1.0, 2.5], [1.0, 2.0], r"values\[1\]: expected 2\.0, found 2\.5"),
    "negative": ([1.0, 1.5], [1.0, 2.0], r"expected 2\.0, found 1\.5"),
    "broadcasting": ([[1.0, 2.0]], [1.0, 2.0], r"expected shape \(2,\), found \(1, 2\)"),
    "scalar": (1.0, [1.0, 1.0], r"expected shape \(2,\), found \(\)"),
    "NaN": ([1.0, np.nan], [1.0, np.nan], "not all values are finite"),
    "infinity": ([np.inf], [np.inf], "not all values are finite"),
    "empty": ([], [], "expected values, found none"),
    "one NaN": ([1.0, 2.0], [1.0, np.nan], "found 2"),
}


@pytest.mark.parametrize(("found", "expected", "message"), FAR.values(), ids=FAR)
def test_far_is_not_close(found: Any, expected: Any, message: str) -> None:
    """Values beyond the tolerance, other shapes and values that are not finite fail, with expected and found."""
    with pytest.raises(AssertionError, match=message):
        assert_close(found, expected, atol=0.25)


def test_tolerances_are_kept() -> None:
    """The tolerance is atol plus rtol times the expected value, inclusive; without one, values must be equal."""
    assert_close([8.0, 2.0], [8.0, 2.0])
    assert_close([10.0], [8.0], atol=1.0, rtol=0.125)
    with pytest.raises(AssertionError, match=r"head/w\[0\]: .*atol=1, rtol=0\.125"):
        assert_close([10.25], [8.0], atol=1.0, rtol=0.125, name="head/w")
    with pytest.raises(AssertionError):
        assert_close([np.nextafter(1, 2)], [1.0])


@pytest.mark.parametrize("same", [ONES, NANS, NANS.astype(ml_dtypes.bfloat16)])
def test_an_array_does_not_differ_from_itself(same: np.ndarray) -> None:
    """Equal arrays are not different, even with NaN, which does not equal itself."""
    with pytest.raises(AssertionError, match="found equal ones"):
        assert_different(same, same.copy())


def test_different_values_are_different() -> None:
    """Arrays that differ in one value are different."""
    assert_different(ONES, np.array([1, 1, 2], np.float32))


def test_interruption_is_no_refusal() -> None:
    """A user's interruption passes through."""
    with pytest.raises(KeyboardInterrupt), refused():
        raise KeyboardInterrupt
