"""Fresh processes of both sides: each counts or times cells of a subject whose code is its side's."""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cells.cells import Cell
from benchmarks.cells.checkpoints import Checkpoint, checkpoint_of
from benchmarks.gate.pairing import Sample
from benchmarks.gate.sides import Side
from benchmarks.measure.process import MODULES, environment_of, measuring
from suite.subjects.process.rpc import Process, Server
from suite.subjects.protocol import CallError

_WORKER = Server("benchmarks.gate.worker:Worker", ("benchmarks.gate.counters", "benchmarks.gate.worker", *MODULES))
# Two processes of one side then differ by little: sets are in the same order, memory goes back when it is freed, and
# all threads have it from one place. Read when a process starts, so set in this one.
_STEADY = {
    "PYTHONHASHSEED": "0",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 16),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 16),
}
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Rounds over all cells, and the CPU seconds that those of a side take at least.
_ROUNDS, _SECONDS = 5, 1.5
# CPU seconds that the calls of a cell in one round take at least: shorter ones vary too much.
_LONG_ENOUGH, _MOST_CALLS = 0.05, 200


class Processes:
    """Processes of the baseline (side 0) and the candidate (1).

    Args:
      subject: ``NAME[=PYTHON]``.
      sides: whose code is measured.
      checkpoints: the folder where they are made and kept.
      scratch: a folder for what is compiled in this run.
    """

    def __init__(self, subject: str, sides: tuple[Side, Side], checkpoints: Path, scratch: Path) -> None:
        os.environ.update(_STEADY)
        self._subject, self._sides, self._folder, self._scratch = subject, sides, checkpoints, scratch
        self._made: dict[str, Checkpoint] = {}
        # CPU seconds of a call, as the counting process saw them.
        self._seconds: dict[str, float] = {}

    def operations(self, side: int) -> set[str]:
        """What a side's subject offers.

        Raises:
          CallError: it cannot be imported.
        """
        with self._process(side) as (_, description):
            return set(description["operations"])

    def counts(self, side: int, cells: Sequence[Cell]) -> dict[str, Any]:
        """All that can be counted of cells, in one process; of a cell that fails, why."""
        found: dict[str, Any] = {}
        with self._process(side) as (process, _):
            for cell in cells:
                try:
                    found[cell.id] = process.call("count", cell.operation, self._job(cell))
                    self._seconds[cell.id] = max(found[cell.id]["cpu_s"], 1e-6)
                except CallError as error:
                    found[cell.id] = str(error)
        return found

    def pair(self, cells: Sequence[Cell], first: int) -> tuple[dict[str, Sample], dict[str, Sample]]:
        """Memory and time of cells, which ``counts`` has seen, in a fresh process of each side.

        Memory before time: once a process keeps what it frees, nothing that it takes shows. Then the sides take turns,
        a round over all cells each, so what makes the machine slow for some seconds makes both slow.

        Args:
          cells: in the order in which they are measured.
          first: the side that goes first.

        Raises:
          CallError: one of them failed.
        """
        order = (first, 1 - first)
        with contextlib.ExitStack() as stack:
            # Within this run a side compiles a program once: compiling is counted, and not timed.
            there = {side: stack.enter_context(self._process(side, self._cache(side)))[0] for side in order}
            peaks = {
                side: {cell.id: there[side].call("peak", cell.id, cell.operation, self._job(cell)) for cell in cells}
                for side in order
            }
            calls = {cell.id: self._calls(cell) for cell in cells}
            times = [{side: there[side].call("time", calls) for side in order} for _ in range(self._rounds(calls))]
        fastest = ({name: _fastest([told[side][name] for told in times]) for name in calls} for side in (0, 1))
        before, after = (
            {name: peaks[side][name] | found[name] for name in calls} for side, found in enumerate(fastest)
        )
        return before, after

    def checkpoint(self, cell: Cell) -> Checkpoint:
        """What a cell reads, made if it is not there."""
        if cell.id not in self._made:
            self._made[cell.id] = checkpoint_of(cell, self._folder)
        return self._made[cell.id]

    def _calls(self, cell: Cell) -> int:
        """How many calls of a cell are timed together."""
        return min(_MOST_CALLS, math.ceil(_LONG_ENOUGH / self._seconds[cell.id]))

    def _rounds(self, calls: Mapping[str, int]) -> int:
        """How many rounds there are over so many calls of each cell: the fewer cells, the more."""
        return max(_ROUNDS, math.ceil(_SECONDS / sum(number * self._seconds[name] for name, number in calls.items())))

    def _cache(self, side: int) -> dict[str, str]:
        return {"JAX_COMPILATION_CACHE_DIR": str(self._scratch / str(side)), "JAX_ENABLE_COMPILATION_CACHE": "1"}

    def _job(self, cell: Cell) -> dict[str, Any]:
        return cell.job(str(self.checkpoint(cell).path))

    @contextlib.contextmanager
    def _process(self, side: int, environment: Mapping[str, str] | None = None) -> Iterator[tuple[Process, Any]]:
        own, candidate = self._sides[side], self._sides[1]
        settings = environment_of("cpu") | _THREADS | dict(environment or {})
        subject = own.asked_as(self._subject, candidate.tree)
        with measuring(subject, settings, server=_WORKER, paths=own.paths) as (process, description):
            yield process, description


def _fastest(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    return {"cpu_s": min(cpu for cpu, _ in times), "wall_s": min(wall for _, wall in times)}
