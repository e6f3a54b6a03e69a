"""One run of the gate: available cells, correctness, counts, times, budgets."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from benchmarks.cells.cells import Cell
from benchmarks.gate import budgets, contracts, counting
from benchmarks.gate.findings import Finding, Verdict
from benchmarks.gate.gate_cells import cells_known_to
from benchmarks.gate.pairing import Pairs
from benchmarks.gate.processes import Processes
from benchmarks.gate.sides import Side
from suite.subjects.process.harness_files import name_of
from suite.subjects.protocol import CallError

_BASELINE, _CANDIDATE = 0, 1
# Verdicts that end a run before anything is timed.
_WRONG = ("error", "regressed")
# Shows the current activity, the steps done and the steps in total.
Show = Callable[[str, int, int], None]


class Gate:
    """A comparison of two sides of one subject.

    Args:
      subject: ``NAME[=PYTHON]``.
      sides: the baseline and the candidate.
      cells: the cells to measure.
      processes: the processes of both sides.
      minutes: time limit; metrics undecided by then are inconclusive.
      seed: seed of the measurement order.
      asks_contracts: whether to run the contracts first.
      show: called on progress.
    """

    def __init__(
        self,
        subject: str,
        sides: tuple[Side, Side],
        cells: Sequence[Cell],
        processes: Processes,
        *,
        minutes: float,
        seed: int,
        asks_contracts: bool,
        show: Show,
    ) -> None:
        self._subject, self._sides, self._processes, self._show = subject, sides, processes, show
        self._name = name_of(subject)
        self._cells, self._seed, self._asks_contracts = cells, seed, asks_contracts
        self._until = time.monotonic() + 60 * minutes
        # Cells of both sides, cells of the candidate alone, and cells whose time is worth measuring.
        self._shared: list[Cell] = []
        self._new: list[Cell] = []
        self._to_time: list[Cell] = []

    def run(self) -> list[Finding]:
        """Return all findings. Missing, wrong or worse counts end the run before anything is timed."""
        findings: list[Finding] = []
        for part in (self._known, self._contracts, self._counted, self._timed):
            try:
                findings += _accepted(part())
            except CallError as error:
                findings.append(Finding(cell="all", metric="process", verdict="error", note=str(error)))
            if any(finding.verdict in _WRONG for finding in findings):
                break
        return findings

    def _known(self) -> Iterator[Finding]:
        """Yield findings for cells that a side lacks, in its list or in its subject's operations."""
        self._show("inspecting both sides", 0, 2)
        before = self._processes.operations(_BASELINE)
        self._show("inspecting both sides", 1, 2)
        after = self._processes.operations(_CANDIDATE)
        yield from _unlisted(*self._sides)
        for cell in self._cells:
            if cell.operation in before & after:
                self._shared.append(cell)
            elif cell.operation in after:
                self._new.append(cell)
                yield Finding(cell=cell.id, metric="cell", verdict="new", note="the baseline does not offer it")
            elif cell.operation in before:
                yield _gone(cell.id, f"the candidate does not offer {cell.operation}")
            else:
                yield Finding(cell=cell.id, metric="cell", verdict="absent", note="neither side offers it")
        if not self._shared:
            yield Finding(cell="all", metric="cell", verdict="error", note="no cell to compare")

    def _contracts(self) -> Iterator[Finding]:
        if not self._asks_contracts:
            yield Finding(cell="contracts", metric="asked", verdict="skipped", note="skipped by --skip-contracts")
        elif chosen := contracts.contracts_of(*self._sides, self._subject):
            self._show("running contracts", 0, 1)
            yield contracts.ask(self._sides[_CANDIDATE], self._subject, chosen)
        else:
            yield Finding(cell="contracts", metric="asked", verdict="skipped", note="no contract covers the change")

    def _counted(self) -> Iterator[Finding]:
        """Yield the findings of all counts, taken once on each side, and again where the sides differ."""
        old, new = self._counts("counting", self._shared, self._new)
        whole = [cell for cell in self._shared if not _errors(old, new, cell)]
        unlike = [cell for cell in whole if counting.differ(cell, old[cell.id], new[cell.id])]
        again = self._counts("recounting differences", unlike) if unlike else ({}, {})
        for cell in [*self._shared, *self._new]:
            if errors := _errors(old, new, cell):
                yield Finding(cell=cell.id, metric="cell", verdict="error", note="; ".join(errors))
        if any(old[cell.id]["values"]["bytes_allocated"] is None for cell in whole):
            note = "memray is not installed for the subject: allocated and mapped bytes are not counted"
            yield Finding(cell="all", metric="bytes_allocated", verdict="skipped", note=note)
        for cell in whole:
            twice = [
                [first[cell.id], *_recounted(second, cell)] for first, second in zip((old, new), again, strict=True)
            ]
            yield from counting.compare(cell, *twice)
            if counting.same_program(old[cell.id], new[cell.id]):
                yield Finding(cell=cell.id, metric="cpu_s", verdict="skipped", note="the same program on both sides")
            else:
                self._to_time.append(cell)

    def _counts(self, what: str, cells: Sequence[Cell], more: Sequence[Cell] = ()) -> tuple[Any, Any]:
        self._show(what, 0, 2)
        old = self._processes.counts(_BASELINE, cells)
        self._show(what, 1, 2)
        return old, self._processes.counts(_CANDIDATE, [*cells, *more])

    def _timed(self) -> Iterator[Finding]:
        pairs = Pairs(self._processes, self._seed, self._until, self._show)
        yield from pairs.decide(self._to_time)
        for cell in self._to_time:
            peaks = [new["host_peak_bytes"] for _, new in pairs.taken[cell.id]]
            budget = budgets.host_budget(self._name, cell, self._processes.checkpoint(cell).manifest["bytes"])
            yield from _within_budget(cell, peaks, budget)


def _unlisted(baseline: Side, candidate: Side) -> Iterator[Finding]:
    """Yield errors for cells that only the baseline's gate has: renamed or removed."""
    listed, present = cells_known_to(baseline.tree), cells_known_to(candidate.tree)
    for cell in sorted({*(listed or ())} - {*(present or listed or ())}):
        yield _gone(cell, "the candidate's gate has no such cell")


def _gone(cell: str, why: str) -> Finding:
    """Return the finding for a cell that the candidate lacks: an error unless the cell is retired."""
    if reason := budgets.retired().get(cell):
        return Finding(cell=cell, metric="cell", verdict="retired", note=reason)
    return Finding(
        cell=cell, metric="cell", verdict="error", note=f"{why}; if this is intended, retire it in budgets.toml"
    )


def _errors(old: dict[str, Any], new: dict[str, Any], cell: Cell) -> list[str]:
    results = {"baseline": old.get(cell.id), "candidate": new.get(cell.id)}
    return [f"the {side} failed: {text}" for side, text in results.items() if isinstance(text, str)]


def _recounted(counts: dict[str, Any], cell: Cell) -> list[Any]:
    """Return the cell's counts of a second process, if there are any."""
    return [again] if not isinstance(again := counts.get(cell.id, ""), str) else []


def _within_budget(cell: Cell, peaks: Iterable[int | None], budget: int | None) -> Iterator[Finding]:
    peak = max((peak for peak in peaks if peak is not None), default=None)
    if budget and peak:
        verdict: Verdict = "same" if peak <= budget else "regressed"
        ratio, note = peak / budget, "against the budget"
        yield Finding(cell=cell.id, metric="host_budget", verdict=verdict, old=budget, new=peak, ratio=ratio, note=note)


def _accepted(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield the findings, with regressions listed in ``budgets.toml`` accepted."""
    for finding in findings:
        reason = budgets.accepted().get((finding.cell, finding.metric))
        if reason and finding.verdict == "regressed":
            yield dataclasses.replace(finding, verdict="accepted", note=reason)
        else:
            yield finding
