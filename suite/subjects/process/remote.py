"""A harness in another interpreter, seen as if it were here. A process that ended is replaced for the next call."""

import shutil
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from suite.subjects.capabilities import OPERATIONS
from suite.subjects.process.elsewhere import TIMEOUT, Elsewhere, SubjectError, process_of
from suite.subjects.process.harness_files import parse
from suite.subjects.protocol import ProcessDiedError


class UnavailableError(Exception):
    """A subject cannot be had here: there is no such interpreter, or it lacks the implementation."""


class RemoteHarness:
    """The harness that is asked for as ``NAME[=PYTHON]``: its name, traits and description, and its operations.

    Raises:
      UnavailableError: the interpreter does not start, or the harness cannot be imported there.
    """

    def __init__(self, asked_as: str, timeout: float = TIMEOUT) -> None:
        self._asked_as, self._timeout = asked_as, timeout
        self._running = ExitStack()
        self._there: Elsewhere | None = None
        there = self._start()
        self.NAME, self.TRAITS = there.name, there.traits
        self._operations = there.operations
        self._description: dict[str, Any] = there.describe()

    def describe(self) -> dict[str, Any]:
        """What the harness tells of itself."""
        return self._description

    def __getattr__(self, operation: str) -> Any:
        if operation not in OPERATIONS or operation not in self._operations:
            raise AttributeError(operation)
        return partial(self._call, operation)

    def rest(self) -> None:
        """End the process. The next call starts another."""
        self._there = None
        self._running.close()

    def _call(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        there = self._there or self._start()
        try:
            return getattr(there, operation)(*args, **kwargs)
        except ProcessDiedError as error:
            self.rest()
            raise ProcessDiedError(f"{self.NAME}, {operation}: {error}") from error

    def _start(self) -> Elsewhere:
        try:
            self._there = self._running.enter_context(process_of(self._asked_as, {}, self._timeout))
        except (SubjectError, ProcessDiedError, OSError) as error:
            name, python = parse(self._asked_as)
            raise UnavailableError(
                f"cannot be imported by {python or sys.executable} ({error}); "
                f"give an interpreter that has it: --subject {name}=PYTHON"
            ) from error
        return self._there


def interpreter(python: str) -> str:
    """An interpreter as a path from anywhere; a virtual environment's is a link, which is not followed.

    Raises:
      UnavailableError: there is no such program.
    """
    found = shutil.which(Path(python).expanduser())
    if found is None:
        raise UnavailableError(f"{python}: no such interpreter")
    return str(Path(found).absolute())
