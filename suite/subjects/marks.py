"""Mark what a subject does: the errors that its operations raise, and the operations that return.

Everything else that a contract raises is the suite's own: an assertion that found wrong values, or a mistake in a
contract. Only a marked error can be a refusal.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_OPERATION = "pi0_compat_operation"
# The operations that returned, for every open ``returned_operations``.
_recorders: list[list[str]] = []


def run_marked(operation: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call an operation of a subject, and mark the error that it raises with the operation's name."""
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        mark(error, operation)
        raise
    for recorder in _recorders:
        recorder.append(operation)
    return result


def mark(error: BaseException, operation: str) -> None:
    """Mark an error as raised by an operation of the subject; the innermost operation counts."""
    if operation_of(error) is None:
        # Not setattr, because an implementation's class of errors may forbid it (a frozen dataclass, for example).
        with suppress(AttributeError):
            BaseException.__setattr__(error, _OPERATION, operation)


def operation_of(error: BaseException) -> str | None:
    """Return the operation that raised an error; None if the error is the suite's own."""
    operation: str | None = getattr(error, _OPERATION, None)
    return operation


@contextmanager
def returned_operations() -> Iterator[list[str]]:
    """Yield a list that grows by the name of each operation that returns within the body."""
    recorder: list[str] = []
    _recorders.append(recorder)
    try:
        yield recorder
    finally:
        _recorders.remove(recorder)
