"""The other side of ``benchmarks.measure.process``: measures one operation in a subject's interpreter.

It needs the standard library, numpy, jax, and the subject's implementation.
"""

import sys
from typing import Any

import jax

from benchmarks.measure.digests import digests
from benchmarks.measure.harness import arrays, operations, prepared, stages
from benchmarks.measure.measuring import evict, measured, read_through
from benchmarks.measure.programs import Running

Data = dict[str, Any]


class Worker:
    """A prepared operation of a subject, and its samples."""

    def __init__(self, harness: Any) -> None:
        self._harness = harness
        self._stages = stages(harness)
        # A call or a program, the compiled program, and the result of the last call.
        self._prepared: Any = None
        self._running: Any = None
        self._result: Any = None

    def describe(self) -> Data:
        """Return versions, device, and the operations that the harness offers."""
        python = ".".join(map(str, sys.version_info[:3]))
        return {"python": python, "operations": operations(self._harness), **self._harness.describe()}

    def prepare(self, operation: str, job: Data) -> None:
        """Prepare an operation; this is not measured."""
        self._job = job
        if job["temperature"] == "warm":
            read_through(job["path"])
        self._prepared = prepared(self._harness, operation, job)

    def sample(self) -> Data:
        """Measure one call of the prepared operation."""
        self._result = None
        if self._job["temperature"] == "cold":
            evict(self._job["path"])
        with self._stages.watched():
            self._result, sample = measured(self._prepared, self._stages)
        return sample

    def digest(self) -> Data:
        """Return the digest of each parameter that the last sample loaded, and the bytes that it holds."""
        held = sum(x.nbytes for x in jax.tree.leaves(self._result))
        return {"leaves": digests(arrays(self._harness, self._result)), "resident_bytes": held}

    def compile(self) -> Data:
        """Compile the prepared program and return the seconds of each step."""
        program, self._prepared = self._prepared, None
        self._stages.clear()
        self._running = Running(program)
        return dict(self._running.costs)

    def step(self) -> Data:
        """Measure one call of the compiled program."""
        return measured(self._running.step)[1]

    def ran(self) -> Data:
        """Return the losses so far, the tokens of the last call, and the programs compiled since ``compile`` began."""
        running: Running = self._running
        return {"losses": running.losses, "written": running.written, "compiles": self._stages.programs}

    def cached_compile_seconds(self) -> float | None:
        """Return the seconds of compiling once more, from jax's persistent cache; that program is not run."""
        running: Running = self._running
        return running.cached_compile_seconds()
