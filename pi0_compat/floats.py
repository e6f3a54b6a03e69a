"""Which dtypes hold weights, and which of their values are not finite."""

import ml_dtypes
import numpy as np

# Values that a core's cache holds beside what is made of them.
_BLOCK = 1 << 16
# The bits that are all set in what is not finite, and only there; numpy's own test of 16-bit floats is slow.
_EXPONENTS = {np.dtype(ml_dtypes.bfloat16): np.uint16(0x7F80), np.dtype(np.float16): np.uint16(0x7C00)}


def count_nonfinite(array: np.ndarray) -> int:
    """How many values are NaN or infinite; in blocks, so that no mask of the whole array is made."""
    flat = array.reshape(-1)
    return sum(_nonfinite(flat[start : start + _BLOCK]) for start in range(0, flat.size, _BLOCK))


def _nonfinite(block: np.ndarray) -> int:
    if (exponent := _EXPONENTS.get(block.dtype)) is not None:
        return int(np.count_nonzero((block.view(np.uint16) & exponent) == exponent))
    # A sum is finite only if all its values are, and takes half the time; one that overflows decides nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(block.sum()):
            return 0
    return int(block.size - np.count_nonzero(np.isfinite(block)))


def is_float(dtype: np.dtype) -> bool:
    """Whether a dtype, in either byte order, holds weights: no codes, and no eight-bit floats, which need scales."""
    return dtype.newbyteorder("=") in (
        np.dtype(ml_dtypes.bfloat16),
        np.dtype("float16"),
        np.dtype("float32"),
        np.dtype("float64"),
    )
