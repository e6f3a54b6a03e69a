"""How bad a failure is, decided by what happened: ``silent``, ``crash`` or ``unclear``.

The subject's own errors are marked (``suite.subjects.marks``). A failure without one is ``silent``: the subject
returned something, and only the suite noticed that it is wrong.
"""

from collections.abc import Iterable, Iterator

from suite.subjects.marks import operation_of
from suite.subjects.protocol import OutOfMemoryError, ProcessDiedError, SubjectError, UnavailableError, Unsupported

# The worst first.
SEVERITIES = {
    "silent": "accepted or computed wrong, and nobody is told",
    "crash": "ends without an error of the loader's own: an IndexError, a killed process, a hang, no memory",
    "unclear": "refused, but without the file, the parameter or the way out; or refused although it is valid",
}
# Types of errors that Python raises for a mistake in code, and no loader on purpose. By name, because only the name of
# a type crosses processes; a library's own subclass of one has another name, and is raised on purpose.
_CRASHES = frozenset({
    *("AttributeError", "IndexError", "KeyError", "NameError", "StopIteration", "TypeError", "UnboundLocalError"),
    *("BufferError", "OverflowError", "UnicodeDecodeError", "UnicodeEncodeError", "ZeroDivisionError"),
    *("MemoryError", "RecursionError", "SystemError", "SystemExit"),
    # Those of struct and zlib.
    "error",
})  # fmt: skip
# How XLA says so.
_NO_MEMORY = "RESOURCE_EXHAUSTED"
_ENDS = (ProcessDiedError, OutOfMemoryError, UnavailableError)


def severity_of(error: BaseException) -> str:
    """Return the severity of the failure that an exception is; of a group, that of its worst member."""
    if isinstance(error, BaseExceptionGroup):
        return worst(map(severity_of, error.exceptions))
    if isinstance(error, Unsupported):
        return "unclear"
    raised = next((each for each in _chain(error) if operation_of(each) is not None), None)
    if raised is None:
        return "silent"
    kind = raised.kind if isinstance(raised, SubjectError) else type(raised).__name__
    ended = isinstance(raised, _ENDS) or _NO_MEMORY in str(raised)
    return "crash" if ended or kind in _CRASHES else "unclear"


def worst(severities: Iterable[str]) -> str:
    """Return the worst of several severities."""
    return min(severities, key=list(SEVERITIES).index)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from or in the handling of: an assertion about a refusal, say."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
