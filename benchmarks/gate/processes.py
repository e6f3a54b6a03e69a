"""Fresh processes of both sides, each with its side's code; they count or time cells of a subject."""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from benchmarks.cells.cells import Cell
from benchmarks.cells.checkpoints import Checkpoint, checkpoint_of
from benchmarks.gate.pairing import Sample
from benchmarks.gate.sides import Side
from benchmarks.measure.process import MODULES, environment_of, measuring
from suite.subjects.process.rpc import Process, Server
from suite.subjects.protocol import CallError

WORKER = Server("benchmarks.gate.worker:Worker", ("benchmarks.gate.counters", "benchmarks.gate.worker", *MODULES))
# These make two processes of one side differ little: sets have the same order, freed memory is returned at once, and
# all threads share one arena. They are read when a process starts, so they are set in this one.
_STEADY = {
    "PYTHONHASHSEED": "0",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 16),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 16),
}
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# The least rounds over all cells, and the least CPU seconds of a side's rounds.
_ROUNDS, _SECONDS = 5, 1.5
# The least CPU seconds of a cell's calls in one round (shorter ones vary too much), and the most calls.
_LONG_ENOUGH, _MOST_CALLS = 0.05, 200


class Processes:
    """Processes of the baseline (side 0) and the candidate (1).

    Args:
      subject: ``NAME[=PYTHON]``.
      sides: the sides whose code is measured.
      checkpoints: the folder to make and keep checkpoints in.
      scratch: a folder for the programs that this run compiles.
    """

    def __init__(self, subject: str, sides: tuple[Side, Side], checkpoints: Path, scratch: Path) -> None:
        os.environ.update(_STEADY)
        self._subject, self._sides, self._folder, self._scratch = subject, sides, checkpoints, scratch
        self._made: dict[str, Checkpoint] = {}
        # The processes that were asked for their operations, each with what ends it; they are the first to count.
        self._started = contextlib.ExitStack()
        self._asked: dict[int, tuple[Process, contextlib.ExitStack]] = {}
        # The CPU seconds of a call, from the counting process.
        self._seconds: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes that are still running."""
        self._started.close()

    def operations(self, side: int) -> set[str]:
        """Return the operations that a side's subject offers.

        Raises:
          CallError: it cannot be imported.
        """
        running = self._started.enter_context(contextlib.ExitStack())
        process, description = running.enter_context(self._process(side))
        self._asked[side] = process, running
        return set(description["operations"])

    def counts(self, side: int, cells: Sequence[Cell]) -> dict[str, Any]:
        """Count everything that can be counted of cells, in one process; for a cell that fails, return the reason."""
        found: dict[str, Any] = {}
        with self._counting(side) as process:
            for cell in cells:
                try:
                    found[cell.id] = process.call("count", cell.operation, self._job(cell))
                    self._seconds[cell.id] = max(found[cell.id]["cpu_s"], 1e-6)
                except CallError as error:
                    found[cell.id] = str(error)
        return found

    def pair(self, cells: Sequence[Cell], first: int) -> tuple[dict[str, Sample], dict[str, Sample]]:
        """Measure memory and time of cells in a fresh process of each side.

        Memory comes before time: once a process keeps freed memory, its growth does not show. Then the sides alternate,
        with one round over all cells each, so what slows the machine for some seconds slows both.

        Args:
          cells: the cells, in the order to measure them; ``counts`` has counted them.
          first: the side that goes first.

        Raises:
          CallError: one of them failed.
        """
        order = (first, 1 - first)
        with contextlib.ExitStack() as stack:
            processes = self._started_together(stack, order)
            peaks = {
                side: {
                    cell.id: processes[side].call("peak", cell.id, cell.operation, self._job(cell)) for cell in cells
                }
                for side in order
            }
            calls = {cell.id: self._calls(cell) for cell in cells}
            times = [{side: processes[side].call("time", calls) for side in order} for _ in range(self._rounds(calls))]
        fastest = ({name: _fastest([of_round[side][name] for of_round in times]) for name in calls} for side in (0, 1))
        before, after = (
            {name: peaks[side][name] | found[name] for name in calls} for side, found in enumerate(fastest)
        )
        return before, after

    def checkpoint(self, cell: Cell) -> Checkpoint:
        """Return the checkpoint that a cell reads; make it if it does not exist."""
        if cell.id not in self._made:
            self._made[cell.id] = checkpoint_of(cell, self._folder)
        return self._made[cell.id]

    def _calls(self, cell: Cell) -> int:
        """Return how many calls of a cell are timed together."""
        return min(_MOST_CALLS, math.ceil(_LONG_ENOUGH / self._seconds[cell.id]))

    def _rounds(self, calls: Mapping[str, int]) -> int:
        """Return the number of rounds for these numbers of calls: the fewer cells, the more rounds."""
        return max(_ROUNDS, math.ceil(_SECONDS / sum(number * self._seconds[name] for name, number in calls.items())))

    def _cache(self, side: int) -> dict[str, str]:
        return {"JAX_COMPILATION_CACHE_DIR": str(self._scratch / str(side)), "JAX_ENABLE_COMPILATION_CACHE": "1"}

    def _job(self, cell: Cell) -> dict[str, Any]:
        return cell.job(str(self.checkpoint(cell).path))

    def _started_together(self, stack: contextlib.ExitStack, order: Sequence[int]) -> dict[int, Process]:
        """Return a process of each side, which ``stack`` ends. Nothing is measured yet, so they start at once."""

        def start(side: int) -> Process:
            # A side compiles a program once per run: compiling is counted, not timed.
            return stack.enter_context(self._process(side, self._cache(side)))[0]

        with ThreadPoolExecutor(len(order)) as starting:
            return dict(zip(order, starting.map(start, order), strict=True))

    @contextlib.contextmanager
    def _counting(self, side: int) -> Iterator[Process]:
        """Yield the process that was asked for its operations, which did nothing else, or a fresh one."""
        with contextlib.ExitStack() as running:
            if side in self._asked:
                process, started = self._asked.pop(side)
                running.enter_context(started)
            else:
                process, _ = running.enter_context(self._process(side))
            yield process

    @contextlib.contextmanager
    def _process(self, side: int, environment: Mapping[str, str] | None = None) -> Iterator[tuple[Process, Any]]:
        own, candidate = self._sides[side], self._sides[1]
        settings = environment_of("cpu") | _THREADS | dict(environment or {})
        subject = own.asked_as(self._subject, candidate.tree)
        with measuring(subject, settings, server=WORKER, paths=own.paths) as (process, description):
            yield process, description


def _fastest(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    return {"cpu_s": min(cpu for cpu, _ in times), "wall_s": min(wall for _, wall in times)}
