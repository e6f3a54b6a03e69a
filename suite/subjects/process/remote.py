"""A harness in another interpreter, used as if it were here. A process that ended is replaced on the next call."""

import sys
from contextlib import ExitStack
from functools import partial
from typing import Any

from suite.subjects.capabilities import OPERATIONS
from suite.subjects.process.elsewhere import Elsewhere, harness_process
from suite.subjects.process.harness_files import parse
from suite.subjects.protocol import TIMEOUT, ProcessDiedError, SubjectError, UnavailableError


class RemoteHarness:
    """The harness of ``NAME[=PYTHON]``: its name, traits, description and operations.

    Raises:
      UnavailableError: the interpreter does not start, or the harness cannot be imported there.
    """

    def __init__(self, asked_as: str, timeout: float = TIMEOUT) -> None:
        self._asked_as, self._timeout = asked_as, timeout
        self._running = ExitStack()
        self._process: Elsewhere | None = None
        process = self._start()
        self.NAME, self.TRAITS = process.name, process.traits
        self._operations = process.operations
        self._description: dict[str, Any] = process.describe()

    def describe(self) -> dict[str, Any]:
        """Return the harness's own description."""
        return self._description

    def __getattr__(self, operation: str) -> Any:
        if operation not in OPERATIONS or operation not in self._operations:
            raise AttributeError(operation)
        return partial(self._call, operation)

    def rest(self) -> None:
        """End the process. The next call starts another."""
        self._process = None
        self._running.close()

    def _call(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        process = self._process or self._start()
        try:
            return getattr(process, operation)(*args, **kwargs)
        except ProcessDiedError as error:
            self.rest()
            raise type(error)(f"{self.NAME}, {operation}: {error}") from error

    def _start(self) -> Elsewhere:
        try:
            self._process = self._running.enter_context(harness_process(self._asked_as, {}, self._timeout))
        except (SubjectError, ProcessDiedError, OSError) as error:
            name, python = parse(self._asked_as)
            raise UnavailableError(
                f"cannot be imported by {python or sys.executable} ({error}); "
                f"give an interpreter that has it: --subject {name}=PYTHON"
            ) from error
        return self._process
