"""One turn: measure a cell of a subject in a fresh process, and record the results."""

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
    """The steps of a turn, in the order in which a benchmark calls them.

    Attributes:
      cell: the cell to measure.
      record: the measurements of the cell, those of earlier passes included.
    """

    def __init__(self, process: Process, cell: Cell, checkpoint: Checkpoint, record: Record) -> None:
        self._process, self.cell, self._checkpoint, self.record = process, cell, checkpoint, record
        self._number = len(record.processes)
        record.processes.append({})

    def prepare(self) -> None:
        """Prepare the cell's operation in the process; this is not measured."""
        self._process.call("prepare", self.cell.operation, self.cell.job(str(self._checkpoint.path)))

    def compile(self) -> None:
        """Compile a program and call it once; record the costs for this process."""
        costs = self._process.call("compile")
        self.record.processes[self._number] = costs | {"first_s": self._process.call("step")["wall_s"]}

    def warm_up(self, method: str) -> None:
        """Make a call that is not recorded: the first calls of a process differ from later ones."""
        self._process.call(method)

    def sample(self) -> None:
        """Call the operation once and record it."""
        self._keep(self._process.call("sample"))

    def step(self) -> None:
        """Call the program once and record it."""
        self._keep(self._process.call("step"))

    def compare(self) -> list[str]:
        """Return every parameter in which the last sample differs from what the checkpoint's factory wrote."""
        found = self._process.call("digest")
        self.record.values["resident_bytes"] = found["resident_bytes"]
        digest = comparison(expected(self.cell, self._checkpoint.manifest), found["leaves"])
        # A difference in one process counts for the cell.
        if self.record.digest is None or digest["differing"]:
            self.record.digest = digest
        return list(digest["differing"])

    def losses(self) -> list[float]:
        """Return the losses of all calls in this process, the first ones too; record them and the work per call."""
        ran = self._process.call("ran")
        self.record.processes[self._number] |= {"compiles": ran["compiles"]}
        self.record.losses = (self.record.losses or []) + ran["losses"]
        self.record.values |= _work(self.cell)
        if ran["written"] is not None:
            self.record.values["tokens_per_sample"] = ran["written"]
        return list(ran["losses"])

    def compile_cached(self) -> None:
        """Time compiling with jax's persistent cache, last, in the first process of a cell with one device."""
        if self._number or self.cell.devices > 1:
            return
        # The measurements count without it.
        with contextlib.suppress(CallError):
            self.record.processes[0]["compile_cached_s"] = self._process.call("cached_compile_seconds")

    def _keep(self, sample: dict[str, Any]) -> None:
        STOPWATCH.add(sample["wall_s"])
        self.record.outcome = "measured"
        self.record.samples.append({"process": self._number, **sample})


def _work(cell: Cell) -> dict[str, Any]:
    """Return the FLOPs and tokens of a sample, counted from the spec."""
    spec = cell.model
    sampled = cell.workload == "sampling"
    work = flops.sampling(spec, cell.options["num_steps"]) if sampled else flops.training(spec)
    # Hardly anything is computed twice if products are kept.
    twice = not cell.operation.endswith("_kept")
    return {
        "flops_per_sample": work.model_flops,
        "hardware_flops_per_sample": work.hardware_flops if twice else work.model_flops,
        "tokens_per_sample": flops.tokens_per_sample(spec),
        "batch": cell.batch,
    }
