"""Assertions for contracts. Each failure names the parameter that differs, what was expected and what was found."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from suite.subjects.marks import operation_of, returned_operations
from suite.subjects.protocol import ProcessDiedError, UnavailableError, Unsupported

_MAX_LINES = 20


def assert_same_bits(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Assert that the paths are the same, and each array's shape, dtype and bytes; NaN payloads and -0.0 matter."""
    __tracebackhide__ = True
    assert_same_paths(actual, expected)
    lines = [line for path in expected if (line := _bit_difference(path, actual[path], expected[path]))]
    assert not lines, _listing(f"{len(lines)} of {len(expected)} parameters differ", lines)


def assert_same_paths(actual: Iterable[str], expected: Iterable[str]) -> None:
    """Assert that ``actual`` has exactly the expected paths."""
    __tracebackhide__ = True
    missing, unexpected = sorted(set(expected) - set(actual)), sorted(set(actual) - set(expected))
    lines = [f"- {path}" for path in missing] + [f"+ {path}" for path in unexpected]
    assert not lines, _listing(f"{len(missing)} paths are missing (-), {len(unexpected)} unexpected (+)", lines)


def assert_close(actual: Any, expected: Any, *, atol: float = 0.0, rtol: float = 0.0, name: str = "values") -> None:
    """Assert that two arrays have the same shape, are not empty, are finite and agree within the tolerance."""
    __tracebackhide__ = True
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"{name}: expected shape {expected.shape}, found {actual.shape}"
    assert actual.size, f"{name}: expected values, found none"
    assert np.isfinite(actual).all(), f"{name}: not all values are finite"
    excess = np.abs(actual - expected) - (atol + rtol * np.abs(expected))
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
    message = f"{name}{list(worst)}: expected {expected[worst]}, found {actual[worst]} (atol={atol:g}, rtol={rtol:g})"
    assert excess[worst] <= 0, message


def assert_different(left: Any, right: Any) -> None:
    """Assert that two arrays differ. Use it to show that an equality assertion next to it can fail."""
    __tracebackhide__ = True
    left, right = np.asarray(left), np.asarray(right)
    same = left.shape == right.shape and left.tobytes() == right.tobytes()
    assert not same, "expected different values, found equal ones"


class AnyOf:
    """A mention of one of several names, which ``refused`` takes like a pattern; far faster than one.

    Args:
      names: one of them has to be in the text.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)

    @property
    def pattern(self) -> str:
        """What a failure shows."""
        return " or ".join([*self._names[:2], *([f"{len(self._names) - 2} more"] if len(self._names) > 2 else [])])

    def search(self, text: str) -> bool:
        """Return whether one of the names is in the text."""
        return any(name in text for name in self._names)


Mention: TypeAlias = str | re.Pattern[str] | AnyOf


@contextmanager
def refused(*mentions: Mention) -> Iterator[None]:
    """Assert that an operation of the subject raises an error whose text has every string and matches every pattern.

    Only an error that an operation of the subject raised can be a refusal. Whatever else the body raises propagates,
    such as the suite's own assertion about what the subject accepted. So does the error of an operation that is
    missing, or of a process that died.

    Args:
      mentions: what the text of the error has to contain, or has to match.
    """
    __tracebackhide__ = True
    with returned_operations() as returned:
        try:
            yield
        except Exception as error:
            if operation_of(error) is None and returned:
                error.add_note(f"accepted, then this: {_accepted(returned, mentions)}")
            if operation_of(error) is None or isinstance(error, (Unsupported, UnavailableError, ProcessDiedError)):
                raise
            text = f"{type(error).__name__}: {error}"
            missing = [getattr(mention, "pattern", mention) for mention in mentions if not _mentioned(mention, text)]
            if missing:
                raise AssertionError(f"refused, but without naming {missing}: {text}") from error
        else:
            raise AssertionError(f"accepted, expected an error: {_accepted(returned, mentions)}")


def _accepted(returned: list[str], mentions: tuple[Mention, ...]) -> str:
    """Return which operations returned, and what the error of one was to name."""
    names = ", ".join(repr(getattr(mention, "pattern", mention)) for mention in mentions)
    called = " and ".join(dict.fromkeys(returned)) or "no operation"
    return f"{called} returned instead of raising an error{f' that names {names}' if names else ''}"


def _mentioned(mention: Mention, text: str) -> bool:
    return mention in text if isinstance(mention, str) else bool(mention.search(text))


def _bit_difference(path: str, actual: Any, expected: Any) -> str | None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    for name in ("dtype", "shape"):
        want, got = getattr(expected, name), getattr(actual, name)
        if want != got:
            return f"~ {path}: expected {name} {want}, found {got}"
    if actual.tobytes() == expected.tobytes():
        return None
    bits = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (actual, expected)]
    first = int(np.argmax(bits[0] != bits[1])) // expected.dtype.itemsize
    return f"~ {path}: flat index {first}: expected {expected.flat[first]}, found {actual.flat[first]}"


def _listing(title: str, lines: list[str]) -> str:
    more = [f"... and {len(lines) - _MAX_LINES} more"] if len(lines) > _MAX_LINES else []
    return "\n  ".join([title, *lines[:_MAX_LINES], *more])
