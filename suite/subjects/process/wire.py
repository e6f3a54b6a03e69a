"""Encode values for another process: plain data unchanged, arrays as dtype, shape and bytes. Needs only numpy.

Both sides of ``rpc`` use it. numpy knows bfloat16 once ``ml_dtypes`` is imported, which every jax installs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

_ARRAY = "__array__"


def encode(value: Any) -> Any:
    """Return the value with every array replaced by plain data."""
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("an array of Python objects cannot travel between processes: its bytes are addresses")
        # Only the name identifies bfloat16; only the code has a foreign byte order.
        dtype = value.dtype.name if value.dtype.isnative else value.dtype.str
        return {_ARRAY: [dtype, list(value.shape), value.tobytes()]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [encode(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot travel between processes, only plain data and numpy arrays can")


def decode(value: Any) -> Any:
    """Return the value that was encoded; tuples and sets come back as lists."""
    if isinstance(value, dict):
        if _ARRAY in value:
            dtype, shape, data = value[_ARRAY]
            # A copy: an array over the received bytes could not be written to.
            return np.frombuffer(data, _dtype(dtype)).reshape(shape).copy()
        return {key: decode(item) for key, item in value.items()}
    return [decode(item) for item in value] if isinstance(value, list) else value


def _dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        named: np.dtype[Any] = np.dtype(getattr(_ml_dtypes(name), name))
        return named


def _ml_dtypes(name: str) -> Any:
    """Import the package that adds machine learning's dtypes to numpy."""
    try:
        import ml_dtypes
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"an array is {name}: install ml_dtypes in this interpreter to receive it") from error
    return ml_dtypes
