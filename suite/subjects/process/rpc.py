"""An object in another process, called method by method: the RPC under the contracts, the benchmarks and the gate.

The other interpreter needs numpy (and ``ml_dtypes`` for bfloat16), but nothing of this project: the modules that serve
the object are sent as source text.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import execnet

from suite.subjects.process.harness_files import PACKAGE, files_of, locate, parse
from suite.subjects.process.wire import decode, encode
from suite.subjects.protocol import (
    TIMEOUT,
    OutOfMemoryError,
    ProcessDiedError,
    ProcessKilledError,
    SubjectError,
    Unsupported,
)

_HERE = Path(__file__).parent
_ROOT = Path(__file__).parents[3]
# These serve the object. They need numpy and the standard library.
_SERVING = ("memory", "operations", "serving", "wire")
# How a module that was sent is named in a traceback.
_SENT = re.compile(r"<sent ([\w.]+)>")
# Seconds to wait for the exit status of a process whose channel is closed.
_EXIT = 10.0

# Runs over there. It sets the environment first, because jax reads it when it is imported. The folder that the process
# was started in comes off the path, so that only what is installed over there can be imported.
_START = """
import os, sys
environment, paths, sent, sources, server, harness = channel.receive()
os.environ.update(environment)
channel.send(os.getpid())
sys.path[:] = [*paths, *(folder for folder in sys.path if folder)]
scope = {"__name__": "sent"}
exec(sent, scope)
scope["install"](sources)
from pi0_compat_sent.serving import serve
serve(channel, server, harness)
"""


class Server(NamedTuple):
    """The object that answers in the other process.

    Attributes:
      place: ``module:class``; the class is called with the harness.
      modules: the modules of this project to send for it, by full name.
    """

    place: str
    modules: tuple[str, ...] = ()


class Process:
    """An object in another process. ``call`` waits for its answer, ``start`` does not.

    Attributes:
      pid: the id of the process.
    """

    def __init__(self, gateway: Any, timeout: float, start: tuple[Any, ...], files: Mapping[str, Path]) -> None:
        self._gateway, self._timeout, self._files = gateway, timeout, files
        self._channel = gateway.remote_exec(_START)
        self._channel.send(start)
        self.pid: int = self._receive()
        # The first answer says whether harness and server could be made.
        self.result()

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the object and return its result; raises as ``result``."""
        self.start(method, *args, **kwargs)
        return self.result()

    def start(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Send a call and return at once.

        Raises:
          ProcessDiedError: the process has ended.
        """
        try:
            self._channel.send((method, encode(args), encode(kwargs)))
        except OSError as error:
            raise self._ended() from error

    def result(self) -> Any:
        """Wait for the result of the oldest call without one.

        Raises:
          Unsupported: the object has no such method.
          OutOfMemoryError: the call needs more memory than the host or the device has.
          SubjectError: the call raised anything else.
          ProcessKilledError: the process was killed (SIGKILL), as a system does that is short of memory.
          ProcessDiedError: the process ended in another way, or did not answer in time.
        """
        kind, value = self._receive()
        if kind == "absent":
            raise Unsupported(f"the subject does not offer {value}")
        if kind == "out_of_memory":
            raise OutOfMemoryError(value[0], self._with_files(value[1]))
        if kind == "error":
            raise SubjectError(value[0], self._with_files(value[1]))
        return decode(value)

    def kill(self) -> None:
        """End the process at once (SIGKILL), as a power failure would."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(EOFError, self._channel.RemoteError):
            self._channel.waitclose(_EXIT)

    def _receive(self) -> Any:
        try:
            return self._channel.receive(self._timeout)
        except EOFError as error:
            raise self._ended() from error
        except self._channel.TimeoutError as error:
            raise ProcessDiedError(f"no answer within {self._timeout:g} s") from error
        except self._channel.RemoteError as error:
            raise SubjectError("RemoteError", str(error)) from error

    def _with_files(self, text: str) -> str:
        """Replace the modules that were sent by the files that they were read from."""
        return _SENT.sub(lambda sent: str(self._files.get(sent[1], sent[0])), text)

    def _ended(self) -> ProcessDiedError:
        """Return the error for a process that closed its channel, by its exit status."""
        status = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._gateway._io.popen.wait(_EXIT)
        if status == -signal.SIGKILL:
            return ProcessKilledError("the process ended without an answer: it was killed, as for want of memory")
        return ProcessDiedError(f"the process ended without an answer: it crashed (exit status {status})")


@contextmanager
def process_of(
    asked_as: str,
    server: Server,
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
    finder: str | None = None,
    paths: Sequence[Path] = (),
) -> Iterator[Process]:
    """Start a process that serves a harness; it is ended on leaving.

    Args:
      asked_as: ``NAME[=PYTHON]``, as ``harness_files.locate`` takes it.
      server: the object that answers.
      environment: variables to set there before anything is imported.
      timeout: seconds that one call may take.
      finder: the module of this project whose ``find_harness`` finds a harness that is imported, not sent.
      paths: folders that come first where modules are looked for there.
    """
    module, name, sources = locate(asked_as, finder)
    sources |= _sources(server)
    # A harness that is imported finds this project, and what this process finds in its folder.
    folders = [*paths, *([_ROOT, Path.cwd()] if name else [])]
    sent = (_HERE / "sent.py").read_text(encoding="utf-8")
    python = parse(asked_as)[1] or sys.executable
    group = execnet.Group()
    try:
        gateway = group.makegateway(f"popen//python={shlex.quote(python)}")
        start = (dict(environment or {}), list(map(str, folders)), sent, sources, server.place, (module, name))
        yield Process(gateway, timeout, start, files_of(asked_as))
    finally:
        group.terminate(timeout=1)


def _sources(server: Server) -> dict[str, str]:
    files = {f"{PACKAGE}.{name}": _HERE / f"{name}.py" for name in _SERVING}
    files |= {name: _ROOT / f"{name.replace('.', '/')}.py" for name in server.modules}
    return {name: file.read_text(encoding="utf-8") for name, file in files.items()}
