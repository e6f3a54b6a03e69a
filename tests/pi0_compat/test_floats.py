"""Counting values that are not finite."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_compat import floats
from pi0_compat.floats import count_nonfinite


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.sampled_from([1, 3, 7, 16, 100]))
def test_nonfinite_values_are_counted_in_blocks(seed: int, count: int, block: int) -> None:
    """The count does not depend on how the array is divided, and holds for any memory layout."""
    rng = np.random.default_rng(seed)
    array = rng.standard_normal((4, 4)).astype(np.float32)
    array.flat[rng.choice(16, count, replace=False)] = rng.choice([np.nan, np.inf, -np.inf], count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floats, "_BLOCK", block)
        assert count_nonfinite(array) == count_nonfinite(array.T) == count


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_nonfinite_values_are_counted_in_any_float(dtype: Any) -> None:
    """NaN and infinity are found in every stored float dtype, in scalars and in empty arrays."""
    assert count_nonfinite(np.array([1, np.nan, np.inf], dtype)) == 2
    assert count_nonfinite(np.array(np.nan, dtype)) == 1
    assert count_nonfinite(np.zeros((0, 3), dtype)) == 0


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_nonfinite_values_are_counted_by_all_their_bits(dtype: Any) -> None:
    """Of every pattern of 16 bits, those are counted that numpy itself calls not finite."""
    patterns = np.arange(1 << 16, dtype=np.uint16).view(dtype).reshape(-1, 64)
    with np.errstate(invalid="ignore"):  # numpy's own test of a bfloat16 warns
        expected = [int(np.count_nonzero(~np.isfinite(pattern))) for pattern in patterns]
    assert [count_nonfinite(pattern) for pattern in patterns] == expected
