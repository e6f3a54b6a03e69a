"""The same subject in a fresh process: to count its memory, to give it other devices, to kill it in the middle."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import execnet

from suite.capabilities import OPERATIONS
from suite.subjects.protocol import Subject, Unsupported
from suite.subjects.wire import decode, encode

_ROOT = Path(__file__).parents[2]
_OTHER_CALLS = ("peak_memory", "memory_of")

# Runs over there: the environment first, because jax reads it when it is imported.
_BOOTSTRAP = """
import os, sys
environment, root, name = channel.receive()
os.environ.update(environment)
sys.path.insert(0, root)
channel.send(os.getpid())
from suite.subjects.worker import serve
serve(channel, name)
"""


class SubjectError(Exception):
    """An operation failed in the other process; the text has the error's type and message."""


class ProcessDiedError(Exception):
    """The other process ended, or did not answer in time."""


class Elsewhere:
    """A subject's operations in another process. Every call waits for its answer, ``start`` does not."""

    def __init__(self, gateway: Any, name: str, environment: dict[str, str], timeout: float) -> None:
        self._gateway, self._timeout = gateway, timeout
        self._channel = gateway.remote_exec(_BOOTSTRAP)
        self._channel.send((environment, str(_ROOT), name))
        self.pid: int = self._receive()
        self.capabilities = frozenset(self.result())

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation not in OPERATIONS and operation not in _OTHER_CALLS:
            raise AttributeError(operation)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.start(operation, *args, **kwargs)
            return self.result()

        return call

    def start(self, operation: str, *args: Any, **kwargs: Any) -> None:
        """Begin an operation over there and return at once; ``result`` waits for it."""
        self._channel.send((operation, encode(args), encode(kwargs)))

    def result(self) -> Any:
        """What the oldest started operation gave; raises what it raised, as ``SubjectError`` or ``Unsupported``."""
        kind, value = self._receive()
        if kind == "unsupported":
            raise Unsupported(value)
        if kind == "error":
            raise SubjectError(value)
        return decode(value)

    def kill(self) -> None:
        """End the process at once, as a power failure would (SIGKILL)."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(EOFError, self._channel.RemoteError):
            self._channel.waitclose(10)

    def _receive(self) -> Any:
        try:
            return self._channel.receive(self._timeout)
        except EOFError as error:
            raise ProcessDiedError("the process ended without an answer") from error
        except self._channel.TimeoutError as error:
            raise ProcessDiedError(f"no answer within {self._timeout:g} s") from error
        except self._channel.RemoteError as error:
            raise SubjectError(str(error)) from error


@contextmanager
def elsewhere(
    subject: Subject, *, devices: int = 1, environment: dict[str, str] | None = None, timeout: float = 300
) -> Iterator[Elsewhere]:
    """A fresh process with this subject, ended on leaving.

    Args:
      subject: what to run over there.
      devices: how many devices jax has there, if it runs on the CPU.
      environment: variables to add there.
      timeout: seconds that one operation may take.
    """
    if subject.asked_as is None:
        raise ValueError(f"{subject.name}: was not found by a name, so another process cannot find it")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
    group = execnet.Group()
    try:
        gateway = group.makegateway("popen")
        yield Elsewhere(gateway, subject.asked_as, {"XLA_FLAGS": flags, **(environment or {})}, timeout)
    finally:
        group.terminate(timeout=1)
