"""The other side of ``benchmarks.measure.process``: measures one operation in a subject's interpreter.

Nothing outside of the standard library, numpy, jax and the subject's implementation is needed here.
"""

import importlib
import sys
from typing import Any

import jax

from benchmarks.measure.digests import digests
from benchmarks.measure.measuring import evict, measured, read_through
from benchmarks.measure.programs import Running
from benchmarks.measure.serving import answer
from benchmarks.measure.stages import Stages

Data = dict[str, Any]


class Worker:
    """A subject's operation, prepared, and the samples of it."""

    def __init__(self, subject: str) -> None:
        self._subject: Any = importlib.import_module(subject)
        self._stages = Stages(self._subject.STAGES)
        # A call, or a program and what was compiled of it; and what the last call gave.
        self._prepared: Any = None
        self._running: Any = None
        self._result: Any = None

    def describe(self) -> Data:
        """Versions, device, and what can be asked."""
        python = ".".join(map(str, sys.version_info[:3]))
        operations = [name for name in vars(self._subject) if callable(getattr(self._subject, name))]
        return {"python": python, "operations": operations, **self._subject.describe()}

    def prepare(self, operation: str, job: Data) -> None:
        """Do what is not measured."""
        self._job = job
        if job["temperature"] == "warm":
            read_through(job["path"])
        self._prepared = getattr(self._subject, operation)(job)

    def sample(self) -> Data:
        """One call of what was prepared."""
        self._result = None
        if self._job["temperature"] == "cold":
            evict(self._job["path"])
        with self._stages.watched():
            self._result, sample = measured(self._prepared, self._stages)
        return sample

    def digest(self) -> Data:
        """What the last sample loaded, by path, and the bytes that it holds."""
        arrays = self._subject.arrays(self._result)
        return {"leaves": digests(arrays), "resident_bytes": sum(x.nbytes for x in jax.tree.leaves(self._result))}

    def compile(self) -> Data:
        """Compile what was prepared."""
        program, self._prepared = self._prepared, None
        self._stages.clear()
        self._running = Running(program)
        return dict(self._running.costs)

    def step(self) -> Data:
        """One call of what was compiled."""
        return measured(self._running.step)[1]

    def ran(self) -> Data:
        """What the calls gave so far, and how many programs jax has compiled since ``compile`` began."""
        return {"losses": self._running.losses, "compiles": self._stages.programs}

    def cached_compile_seconds(self) -> float | None:
        """Seconds of compiling once more, from jax's persistent cache; what comes of it is not run."""
        running: Running = self._running
        return running.cached_compile_seconds()


def serve(channel: Any, subject: str) -> None:
    """Answer for a worker of this subject, until the end."""
    answer(channel, lambda: Worker(subject))
