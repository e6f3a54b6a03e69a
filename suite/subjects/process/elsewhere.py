"""A subject in a process of its own: to count its memory, to give it other devices, to kill it in the middle, or
because it needs another interpreter.

Another interpreter needs numpy and the implementation, nothing of this project: the harness's source is sent to it.
"""

import contextlib
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import execnet

from suite.subjects.capabilities import OPERATIONS
from suite.subjects.process.harness_files import harness_file, is_foreign, parse, sources_of
from suite.subjects.process.wire import decode, encode
from suite.subjects.protocol import ProcessDiedError, Subject, Unsupported

# Seconds that one operation may take, unless said otherwise.
TIMEOUT = 300.0

_ROOT = Path(__file__).parents[3]
_OTHER_CALLS = ("describe", "peak_memory", "memory_of")

# These run over there: the environment first, because jax reads it when it is imported.
_WITH_THIS_PROJECT = """
import os, sys
environment, operations, root, name = channel.receive()
os.environ.update(environment)
channel.send(os.getpid())
sys.path.insert(0, root)
from suite.session.find import find_harness
from suite.subjects.process.worker import serve
serve(channel, lambda: find_harness(name), operations)
"""
_WITH_SENT_SOURCES = """
import importlib, os, sys
environment, operations, sent, sources, name = channel.receive()
os.environ.update(environment)
channel.send(os.getpid())
# Not from where the suite was called: what is imported is what is installed over there.
sys.path[:] = [folder for folder in sys.path if folder]
scope = {"__name__": "sent"}
exec(sent, scope)
scope["install"](sources)
from pi0_compat_sent.worker import serve
serve(channel, lambda: importlib.import_module(name), operations)
"""


class SubjectError(Exception):
    """An operation failed in the other process; the text has the error's type and message."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Elsewhere:
    """A subject's operations in another process. Every call waits for its answer, ``start`` does not."""

    def __init__(self, gateway: Any, asked_as: str, environment: dict[str, str], timeout: float) -> None:
        self._timeout = timeout
        name, python = parse(asked_as)
        operations = list(OPERATIONS)
        if is_foreign(name) or python:
            self._channel = gateway.remote_exec(_WITH_SENT_SOURCES)
            module, sources = sources_of(harness_file(name))
            sent = (Path(__file__).parent / "sent.py").read_text(encoding="utf-8")
            self._channel.send((environment, operations, sent, sources, module))
        else:
            self._channel = gateway.remote_exec(_WITH_THIS_PROJECT)
            self._channel.send((environment, operations, str(_ROOT), name))
        self.pid: int = self._receive()
        hello = self.result()
        self.name: str = hello["name"]
        self.traits: tuple[str, ...] = tuple(hello["traits"])
        self.operations = frozenset(hello["operations"])

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation not in OPERATIONS and operation not in _OTHER_CALLS:
            raise AttributeError(operation)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.start(operation, *args, **kwargs)
            return self.result()

        return call

    def start(self, operation: str, *args: Any, **kwargs: Any) -> None:
        """Begin an operation over there and return at once; ``result`` waits for it."""
        try:
            self._channel.send((operation, encode(args), encode(kwargs)))
        except OSError as error:
            raise ProcessDiedError(f"the process had ended before {operation}") from error

    def result(self) -> Any:
        """What the oldest started operation gave; raises what it raised, as ``SubjectError`` or ``Unsupported``."""
        kind, value = self._receive()
        if kind == "unsupported":
            raise Unsupported(value)
        if kind == "error":
            raise SubjectError(*value)
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
            raise ProcessDiedError("the process ended without an answer: it crashed or was killed") from error
        except self._channel.TimeoutError as error:
            raise ProcessDiedError(f"no answer within {self._timeout:g} s") from error
        except self._channel.RemoteError as error:
            raise SubjectError("RemoteError", str(error)) from error


@contextmanager
def elsewhere(
    subject: Subject, *, devices: int = 1, environment: dict[str, str] | None = None, timeout: float = TIMEOUT
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
    with process_of(subject.asked_as, {"XLA_FLAGS": flags, **(environment or {})}, timeout) as there:
        yield there


@contextmanager
def process_of(asked_as: str, environment: dict[str, str], timeout: float = TIMEOUT) -> Iterator[Elsewhere]:
    """A fresh process with the harness that is asked for as ``asked_as``, ended on leaving."""
    _, python = parse(asked_as)
    group = execnet.Group()
    try:
        gateway = group.makegateway(f"popen//python={shlex.quote(python)}" if python else "popen")
        yield Elsewhere(gateway, asked_as, environment, timeout)
    finally:
        group.terminate(timeout=1)
