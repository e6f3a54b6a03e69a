"""One turn: a cell of a subject in a fresh process, and what goes into its record."""

import contextlib
from typing import Any

from benchmarks.cells import flops
from benchmarks.cells.cells import Cell
from benchmarks.cells.checkpoints import Checkpoint
from benchmarks.cells.expected import comparison, expected
from benchmarks.measure.plan import Record
from benchmarks.measure.stopwatch import STOPWATCH
from suite.subjects.process.rpc import Process
from suite.subjects.protocol import CallError


class Measurement:
    """The steps of a turn, in the order in which a benchmark takes them.

    Attributes:
      cell: what is measured.
      record: what was measured of it, in earlier passes too.
    """

    def __init__(self, process: Process, cell: Cell, checkpoint: Checkpoint, record: Record) -> None:
        self._process, self.cell, self._checkpoint, self.record = process, cell, checkpoint, record
        self._number = len(record.processes)
        record.processes.append({})

    def prepare(self) -> None:
        """Do over there what is not measured."""
        self._process.call("prepare", self.cell.operation, self.cell.job(str(self._checkpoint.path)))

    def compile(self) -> None:
        """Compile a program and call it once; what that costs is kept by process."""
        costs = self._process.call("compile")
        self.record.processes[self._number] = costs | {"first_s": self._process.call("step")["wall_s"]}

    def warm_up(self, method: str) -> None:
        """A call that is not kept: the first ones of a process are others than those that follow."""
        self._process.call(method)

    def sample(self) -> None:
        """A call of an operation, kept."""
        self._keep(self._process.call("sample"))

    def step(self) -> None:
        """A call of a program, kept."""
        self._keep(self._process.call("step"))

    def compare(self) -> list[str]:
        """Every parameter in which the last sample differs from what the checkpoint's factory wrote."""
        found = self._process.call("digest")
        self.record.values["resident_bytes"] = found["resident_bytes"]
        digest = comparison(expected(self.cell, self._checkpoint.manifest), found["leaves"])
        # A difference in one process is one of the cell.
        if self.record.digest is None or digest["differing"]:
            self.record.digest = digest
        return list(digest["differing"])

    def losses(self) -> list[float]:
        """What this process' calls of the program gave, the first ones too; what they compute goes into the record."""
        ran = self._process.call("ran")
        self.record.processes[self._number] |= {"compiles": ran["compiles"]}
        self.record.losses = (self.record.losses or []) + ran["losses"]
        self.record.values |= _work(self.cell)
        return list(ran["losses"])

    def compile_cached(self) -> None:
        """In the first process of a cell of one device, compile with jax's persistent cache, after all else."""
        if self._number or self.cell.devices > 1:
            return
        # What was measured counts without it.
        with contextlib.suppress(CallError):
            self.record.processes[0]["compile_cached_s"] = self._process.call("cached_compile_seconds")

    def _keep(self, sample: dict[str, Any]) -> None:
        STOPWATCH.add(sample["wall_s"])
        self.record.outcome = "measured"
        self.record.samples.append({"process": self._number, **sample})


def _work(cell: Cell) -> dict[str, Any]:
    """FLOPs and tokens of a sample, by count."""
    spec = cell.model
    sampled = cell.workload == "sampling"
    work = flops.sampling(spec, cell.options["num_steps"]) if sampled else flops.training(spec)
    # Next to nothing is computed twice where products are kept.
    twice = not cell.operation.endswith("_kept")
    return {
        "flops_per_sample": work.model_flops,
        "hardware_flops_per_sample": work.hardware_flops if twice else work.model_flops,
        "tokens_per_sample": flops.tokens_per_sample(spec),
        "batch": cell.batch,
    }
