"""What travels between processes: plain data as it is, arrays as dtype, shape and bytes. Needs numpy and nothing else.

Both sides of ``elsewhere`` use it. bfloat16 is known to numpy once ``ml_dtypes`` is imported, which every jax brings.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

_ARRAY = "__array__"


def encode(value: Any) -> Any:
    """The value with every array replaced by plain data."""
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("an array of Python objects cannot travel between processes: its bytes are addresses")
        # bfloat16 has a name only, a foreign byte order is in the code only.
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
    """What was encoded; tuples and sets come back as lists."""
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
    """What gives numpy the dtypes that machine learning has beside its own."""
    try:
        import ml_dtypes
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"an array is {name}: install ml_dtypes in this interpreter to receive it") from error
    return ml_dtypes
