"""The few assertions that contracts make. Each says which parameter differs, what was expected and what was found."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from suite.subjects.protocol import ProcessDiedError, Unsupported

_MAX_LINES = 20


def assert_same_bits(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """The same paths, and for each the same shape, dtype and bytes: NaN payloads and signed zeros count."""
    __tracebackhide__ = True
    assert_same_paths(found, expected)
    lines = [line for path in expected if (line := _bit_difference(path, found[path], expected[path]))]
    assert not lines, _listing(f"{len(lines)} of {len(expected)} parameters differ", lines)


def assert_same_paths(found: Iterable[str], expected: Iterable[str]) -> None:
    """Exactly the expected paths."""
    __tracebackhide__ = True
    missing, unexpected = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    lines = [f"- {path}" for path in missing] + [f"+ {path}" for path in unexpected]
    assert not lines, _listing(f"{len(missing)} paths are missing (-), {len(unexpected)} unexpected (+)", lines)


def assert_close(found: Any, expected: Any, *, atol: float = 0.0, rtol: float = 0.0, name: str = "values") -> None:
    """Two arrays of the same shape, not empty, all finite, within the tolerance of each other."""
    __tracebackhide__ = True
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, f"{name}: expected shape {expected.shape}, found {found.shape}"
    assert found.size, f"{name}: expected values, found none"
    assert np.isfinite(found).all(), f"{name}: not all values are finite"
    excess = np.abs(found - expected) - (atol + rtol * np.abs(expected))
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
    message = f"{name}{list(worst)}: expected {expected[worst]}, found {found[worst]} (atol={atol:g}, rtol={rtol:g})"
    assert excess[worst] <= 0, message


def assert_different(left: Any, right: Any) -> None:
    """Two arrays that are not equal: without this, a test of equality may compare a thing with itself."""
    __tracebackhide__ = True
    left, right = np.asarray(left), np.asarray(right)
    same = left.shape == right.shape and left.tobytes() == right.tobytes()
    assert not same, "expected different values, found equal ones"


@contextmanager
def refused(*mentions: str | re.Pattern[str]) -> Iterator[None]:
    """The body raises an error that has every one of ``mentions`` in its text; a pattern is searched for.

    An operation that is absent or a process that dies refuses nothing.
    """
    __tracebackhide__ = True
    try:
        yield
    except (Unsupported, ProcessDiedError):
        raise
    except Exception as error:  # noqa: BLE001 - any error is a refusal; what it says is checked below
        text = f"{type(error).__name__}: {error}"
        unnamed = [getattr(mention, "pattern", mention) for mention in mentions if not _mentioned(mention, text)]
        assert not unnamed, f"refused, but without naming {unnamed}: {text}"
    else:
        raise AssertionError("accepted, expected an error")


def _mentioned(mention: str | re.Pattern[str], text: str) -> bool:
    return mention in text if isinstance(mention, str) else bool(mention.search(text))


def _bit_difference(path: str, found: Any, expected: Any) -> str | None:
    found, expected = np.asarray(found), np.asarray(expected)
    for name in ("dtype", "shape"):
        want, got = getattr(expected, name), getattr(found, name)
        if want != got:
            return f"~ {path}: expected {name} {want}, found {got}"
    if found.tobytes() == expected.tobytes():
        return None
    bits = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (found, expected)]
    first = int(np.argmax(bits[0] != bits[1])) // expected.dtype.itemsize
    return f"~ {path}: flat index {first}: expected {expected.flat[first]}, found {found.flat[first]}"


def _listing(title: str, lines: list[str]) -> str:
    more = [f"... and {len(lines) - _MAX_LINES} more"] if len(lines) > _MAX_LINES else []
    return "\n  ".join([title, *lines[:_MAX_LINES], *more])
