"""A fresh process of a subject, in its own interpreter: what is measured shares nothing with what measured before."""

import os
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import execnet

ROOT = Path(__file__).parents[2]
# Seconds that one call may take: a real-size checkpoint takes minutes.
TIMEOUT = 1800.0
_TO_END = 60.0
# jax reads its environment when it is imported.
_SERVE = """
import importlib, os, sys
environment, paths, server, subject = channel.receive()
os.environ.update(environment)
sys.path[:0] = paths
importlib.import_module(server).serve(channel, subject)
"""


def name_of(asked_as: str) -> str:
    """The subject's name in ``NAME[=PYTHON]``."""
    return asked_as.partition("=")[0]


class FailedError(Exception):
    """A subject's operation failed, or its process ended."""


class OutOfMemoryError(FailedError):
    """A subject's operation needs more memory than host or device has."""


class Process:
    """The methods of a ``worker.Worker`` in another process; each waits for its answer."""

    def __init__(self, gateway: Any, *told: Any) -> None:
        self._gateway, self._channel = gateway, gateway.remote_exec(_SERVE)
        self._channel.send(told)
        self.description: dict[str, Any] = self._answer()

    def call(self, method: str, *arguments: Any) -> Any:
        """What a method gives there.

        Raises:
          OutOfMemoryError: the device or the host had too little, or the system ended the process.
          FailedError: it raised anything else.
        """
        self._channel.send((method, arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            kind, value = self._channel.receive(TIMEOUT)
        except EOFError as error:
            raise self._ended() from error
        except self._channel.TimeoutError as error:
            raise FailedError(f"no answer within {TIMEOUT:g} s") from error
        if kind == "out_of_memory":
            raise OutOfMemoryError(value)
        if kind == "error":
            raise FailedError(value)
        return value

    def _ended(self) -> FailedError:
        """Why there is no answer: a system that is short of memory kills."""
        status = self._gateway._io.popen.wait(_TO_END)
        if status == -signal.SIGKILL:
            return OutOfMemoryError("the process was killed, as for want of host memory")
        return FailedError(f"the process ended with status {status}")


@contextmanager
def process_of(
    asked_as: str,
    environment: dict[str, str],
    *,
    paths: Sequence[Path] = (),
    server: str = "benchmarks.measure.worker",
) -> Iterator[Process]:
    """A process with a subject, ended on leaving.

    Args:
      asked_as: ``NAME`` or ``NAME=PYTHON``; a name with a dot is a module, others are in ``benchmarks.subjects``.
      environment: variables to set there, before jax is imported.
      paths: where modules are looked for there after this project's, and before the interpreter's own packages.
      server: the module whose ``serve`` answers there.
    """
    name, _, python = asked_as.partition("=")
    group = execnet.Group()
    try:
        interpreter = f"popen//python={shlex.quote(str(Path(python).absolute()))}" if python else "popen"
        module = name if "." in name else f"benchmarks.subjects.{name}"
        yield Process(group.makegateway(interpreter), environment, list(map(str, (ROOT, *paths))), server, module)
    finally:
        group.terminate(timeout=1)


def environment_of(device: str, *, devices: int = 1, quickly_compiled: bool = False) -> dict[str, str]:
    """The environment of a process that computes.

    Args:
      device: ``cpu``, ``gpu`` or ``tpu``.
      devices: how many; on the CPU that many are made of it.
      quickly_compiled: whether programs need not be fast, as where nothing is measured.
    """
    flags = [os.environ.get("XLA_FLAGS", "")]
    if device == "cpu" and devices > 1:
        flags.append(f"--xla_force_host_platform_device_count={devices}")
    if quickly_compiled:
        flags.append("--xla_backend_optimization_level=0")
    platform = {"gpu": "cuda"}.get(device, device)
    # What was compiled before is not measured.
    return {"JAX_PLATFORMS": platform, "XLA_FLAGS": " ".join(flags).strip(), "JAX_ENABLE_COMPILATION_CACHE": "0"}
