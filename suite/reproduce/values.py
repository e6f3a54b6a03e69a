"""Find where arrays came from: which result of which call holds them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from suite.reproduce.recording import Call

Arrays = Mapping[str, Any]
# The name of a result that is one array.
ONE = "values"


class View(NamedTuple):
    """Arrays that a call returned or wrote.

    Attributes:
      call: the call.
      key: their place in the result: "" for the whole result.
      arrays: the arrays by name.
      written: whether they are what the call wrote to a file.
    """

    call: Call
    key: str
    arrays: Arrays
    written: bool = False


def views(call: Call) -> Iterator[View]:
    """Yield every set of arrays in the result of a call."""
    if call.written:
        yield View(call, "", call.written, written=True)
    result = call.result
    if isinstance(result, np.ndarray):
        yield View(call, "", {ONE: result})
    elif isinstance(result, dict) and result and _are_arrays(result.values()):
        yield View(call, "", result)
    elif isinstance(result, dict):
        for key, value in result.items():
            if isinstance(value, dict) and value and _are_arrays(value.values()):
                yield View(call, "" if (call.operation, key) == ("load", "params") else key, value)


def same(left: Any, right: Any) -> bool:
    """Return whether two arrays hold the same numbers, whatever their dtype; NaN equals NaN."""
    left, right = np.asarray(left), np.asarray(right)
    if left.shape != right.shape:
        return False
    if left.dtype == right.dtype:
        return bool(left.tobytes() == right.tobytes())
    return bool(np.array_equal(left.astype(np.float64), right.astype(np.float64), equal_nan=True))


def view_equal_to(arrays: Arrays, calls: Sequence[Call]) -> View | None:
    """Return the newest view with exactly these arrays, or None."""
    for call in reversed(calls):
        for view in views(call):
            if view.arrays.keys() == arrays.keys() and all(same(view.arrays[name], arrays[name]) for name in arrays):
                return view
    return None


def view_that_holds(arrays: Arrays, calls: Sequence[Call], but: View | None = None) -> View | None:
    """Return the newest view that holds all of these arrays under their names; None if there is none.

    Args:
      arrays: the arrays to find. A single one is also found under any other name if it is a whole result.
      calls: the calls to look at.
      but: a view that is not meant.
    """
    for call in reversed(calls):
        for view in views(call):
            if but and (view.call, view.key) == (but.call, but.key):
                continue
            if all(name in view.arrays and same(view.arrays[name], array) for name, array in arrays.items()):
                return view
            if len(arrays) == len(view.arrays) == 1 and same(*arrays.values(), *view.arrays.values()):
                return view
    return None


def differing(found: Arrays, right: Arrays, rtol: float, atol: float) -> list[str]:
    """Return the names in ``right`` whose array is missing in ``found`` or differs, the smallest first."""
    names = [name for name in right if name not in found or not _close(found[name], right[name], rtol, atol)]
    return sorted(names, key=lambda name: (np.asarray(right[name]).nbytes, name))


def _close(found: Any, right: Any, rtol: float, atol: float) -> bool:
    if not rtol and not atol:
        return same(found, right)
    left, right = np.asarray(found, np.float64), np.asarray(right, np.float64)
    return left.shape == right.shape and bool(np.allclose(left, right, rtol=rtol, atol=atol))


def _are_arrays(values: Any) -> bool:
    return all(isinstance(value, np.ndarray) or np.isscalar(value) for value in values)
