"""A subject in a process of its own: to measure its memory, to give it other devices, or to kill it in the middle."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from suite.subjects.capabilities import OPERATIONS
from suite.subjects.process.rpc import Process, Server, process_of
from suite.subjects.protocol import TIMEOUT, Subject

_SERVER = Server("pi0_compat_sent.operations:Operations")
_OTHER_CALLS = ("describe", "peak_memory", "memory_of")


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
        self.pid, self.start, self.result, self.kill = process.pid, process.start, process.result, process.kill
        hello = process.call("hello")
        self.name: str = hello["name"]
        self.traits: tuple[str, ...] = tuple(hello["traits"])
        self.operations = frozenset(OPERATIONS.keys() & hello["names"])

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation not in OPERATIONS and operation not in _OTHER_CALLS:
            raise AttributeError(operation)
        return partial(self._process.call, operation)


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
