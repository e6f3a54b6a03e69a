"""A subject in a process of its own: to measure its memory, to give it other devices, or to kill it in the middle."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from suite.subjects.capabilities import OPERATIONS
from suite.subjects.marks import run_marked
from suite.subjects.process.rpc import Process, Server, process_of
from suite.subjects.protocol import TIMEOUT, Subject

_SERVER = Server("pi0_compat_sent.operations:Operations")
_OTHER_CALLS = ("describe", "peak_memory")


class Elsewhere:
    """A subject's operations in another process. An operation waits for its answer, ``start`` does not.

    Attributes:
      pid: the id of the process.
      name: the subject's name.
      traits: the traits that its harness declares.
      operations: the operations that its harness has.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._started: deque[str] = deque()
        self.pid, self.kill = process.pid, process.kill
        hello = process.call("hello")
        self.name: str = hello["name"]
        self.traits: tuple[str, ...] = tuple(hello["traits"])
        self.operations = frozenset(OPERATIONS.keys() & hello["names"])

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation in OPERATIONS:
            return partial(run_marked, operation, self._process.call, operation)
        if operation in _OTHER_CALLS:
            return partial(self._process.call, operation)
        raise AttributeError(operation)

    def memory_of(self, operation: str, *args: Any, **kwargs: Any) -> int:
        """Return by how many bytes, at most, the process grows during an operation; raises as ``Process.call``."""
        grown: int = run_marked(operation, self._process.call, "memory_of", operation, *args, **kwargs)
        return grown

    def start(self, operation: str, *args: Any, **kwargs: Any) -> None:
        """Send a call and return at once; raises as ``Process.start``."""
        run_marked(operation, self._process.start, operation, *args, **kwargs)
        self._started.append(operation)

    def result(self) -> Any:
        """Wait for the result of the oldest call without one; raises as ``Process.result``."""
        return run_marked(self._started.popleft(), self._process.result)


@contextmanager
def elsewhere(
    subject: Subject, *, devices: int = 1, environment: dict[str, str] | None = None, timeout: float = TIMEOUT
) -> Iterator[Elsewhere]:
    """Start a process with this subject; it is ended on leaving.

    Args:
      subject: the subject to run there.
      devices: how many devices jax has there, if it runs on the CPU.
      environment: variables to add there.
      timeout: seconds that one operation may take.
    """
    if subject.asked_as is None:
        raise ValueError(f"{subject.name}: was not found by a name, so another process cannot find it")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
    variables = {"XLA_FLAGS": flags, **(environment or {})}
    with harness_process(subject.asked_as, variables, timeout, subject.finder) as process:
        yield process


@contextmanager
def harness_process(
    asked_as: str, environment: dict[str, str], timeout: float, finder: str | None = None
) -> Iterator[Elsewhere]:
    """Start a process with the harness of ``asked_as``; it is ended on leaving."""
    with process_of(asked_as, _SERVER, environment=environment, timeout=timeout, finder=finder) as process:
        yield Elsewhere(process)
