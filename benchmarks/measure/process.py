"""A fresh process that measures a subject, in the subject's own interpreter.

It shares nothing with what was measured before. The modules that measure are sent there, so another interpreter needs
nothing of this project, and the gate measures both sides with the same ones.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from suite.session.find import FINDER
from suite.subjects.process.rpc import Process, Server, process_of

ROOT = Path(__file__).parents[2]
# Seconds that one call may take: a real-size checkpoint takes minutes.
TIMEOUT = 1800.0
# All modules of this project that a worker imports.
MODULES = (
    *(f"benchmarks.measure.{name}" for name in ("digests", "harness", "measuring", "persistent_cache", "programs")),
    "benchmarks.measure.stages",
    *(f"fixtures.{name}" for name in ("observations", "params", "specs")),
    "suite.subjects.process.memory",
)
WORKER = Server("benchmarks.measure.worker:Worker", ("benchmarks.measure.worker", *MODULES))
# XLA's default optimization level, and the one that compiles fastest.
_DEFAULT_LEVEL, _QUICKEST_LEVEL = 3, 0
_LEVEL = "--xla_backend_optimization_level"


@contextmanager
def measuring(
    asked_as: str, environment: dict[str, str], *, server: Server = WORKER, paths: Sequence[Path] = ()
) -> Iterator[tuple[Process, dict[str, Any]]]:
    """Start a process with a subject; it is ended on leaving.

    Args:
      asked_as: ``NAME[=PYTHON]``, as for the contracts.
      environment: variables to set there before jax is imported.
      server: the worker that answers there.
      paths: folders that come first where modules are looked for there.

    Yields:
      The process, and the worker's description of the subject.
    """
    with process_of(asked_as, server, environment=environment, timeout=TIMEOUT, finder=FINDER, paths=paths) as process:
        yield process, process.call("describe")


def environment_of(device: str, *, devices: int = 1, quickly_compiled: bool = False) -> dict[str, str]:
    """Return the environment of a process that computes.

    Args:
      device: ``cpu``, ``gpu`` or ``tpu``.
      devices: the number of devices; a CPU is split into as many.
      quickly_compiled: whether programs need not be fast, because nothing is measured.
    """
    flags = [os.environ.get("XLA_FLAGS", "")]
    if device == "cpu" and devices > 1:
        flags.append(f"--xla_force_host_platform_device_count={devices}")
    # Always explicit: without it, a harness may choose the quickest level for the contracts' tiny models.
    if quickly_compiled or _LEVEL not in flags[0]:
        flags.append(f"{_LEVEL}={_QUICKEST_LEVEL if quickly_compiled else _DEFAULT_LEVEL}")
    platform = {"gpu": "cuda"}.get(device, device)
    # Programs from a cache would not be compiled, and compiling is measured.
    return {"JAX_PLATFORMS": platform, "XLA_FLAGS": " ".join(flags).strip(), "JAX_ENABLE_COMPILATION_CACHE": "0"}
