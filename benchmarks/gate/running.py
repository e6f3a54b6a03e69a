"""One run of the gate: what is there, correctness, counts, times, budgets."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from benchmarks.cells.cells import Cell
from benchmarks.gate import budgets, contracts, counting
from benchmarks.gate.cells import cells_known_to
from benchmarks.gate.findings import Finding, Verdict
from benchmarks.gate.pairing import Pairs
from benchmarks.gate.processes import Processes
from benchmarks.gate.sides import Side
from suite.subjects.process.harness_files import name_of
from suite.subjects.protocol import CallError

_BASELINE, _CANDIDATE = 0, 1
# What ends a run before anything is timed.
_WRONG = ("error", "regressed")
# Says what is done now, and of how many steps that has how many were done.
Show = Callable[[str, int, int], None]


class Gate:
    """A comparison of two sides of one subject.

    Args:
      subject: ``NAME[=PYTHON]``.
      sides: the baseline and the candidate.
      cells: what is measured.
      processes: of both sides.
      minutes: how long it may take before what is open stays open.
      seed: of the order of measurements.
      asks_contracts: whether contracts are asked first.
      show: called whenever something was done.
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
        # Cells of both sides and of the candidate alone, and those whose time says something.
        self._shared: list[Cell] = []
        self._new: list[Cell] = []
        self._to_time: list[Cell] = []

    def run(self) -> list[Finding]:
        """All findings. What is missing, wrong, or counted to be worse ends it before anything is timed."""
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
        """Cells that one side does not know, by its list or by what its subject offers."""
        self._show("looking at both sides", 0, 2)
        before = self._processes.operations(_BASELINE)
        self._show("looking at both sides", 1, 2)
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
            yield Finding(cell="all", metric="cell", verdict="error", note="there is no cell to compare")

    def _contracts(self) -> Iterator[Finding]:
        if not self._asks_contracts:
            yield Finding(cell="contracts", metric="asked", verdict="skipped", note="not asked, as was wished")
        elif chosen := contracts.contracts_of(*self._sides, self._subject):
            self._show("asking contracts", 0, 1)
            yield contracts.ask(self._sides[_CANDIDATE], self._subject, chosen)
        else:
            yield Finding(cell="contracts", metric="asked", verdict="skipped", note="no contract looks at what changed")

    def _counted(self) -> Iterator[Finding]:
        """Everything that can be counted, once on each side; twice where the sides differ."""
        old, new = self._counts("counting", self._shared, self._new)
        whole = [cell for cell in self._shared if not _errors(old, new, cell)]
        unlike = [cell for cell in whole if counting.differ(cell, old[cell.id], new[cell.id])]
        again = self._counts("counting again what differs", unlike) if unlike else ({}, {})
        for cell in [*self._shared, *self._new]:
            if errors := _errors(old, new, cell):
                yield Finding(cell=cell.id, metric="cell", verdict="error", note="; ".join(errors))
        if any(old[cell.id]["values"]["bytes_allocated"] is None for cell in whole):
            note = "memray is not there for the subject: neither what is allocated nor what is mapped is counted"
            yield Finding(cell="all", metric="bytes_allocated", verdict="skipped", note=note)
        for cell in whole:
            twice = [[first[cell.id], *_told(second, cell)] for first, second in zip((old, new), again, strict=True)]
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
    """Cells that the baseline's gate has and the candidate's has not: renamed, or taken out."""
    listed, there = cells_known_to(baseline.tree), cells_known_to(candidate.tree)
    for cell in sorted({*(listed or ())} - {*(there or listed or ())}):
        yield _gone(cell, "the candidate's gate has no such cell")


def _gone(cell: str, why: str) -> Finding:
    """A cell that the candidate lacks: an error, unless that was decided."""
    if reason := budgets.retired().get(cell):
        return Finding(cell=cell, metric="cell", verdict="retired", note=reason)
    return Finding(
        cell=cell, metric="cell", verdict="error", note=f"{why}; if that is wanted, retire it in budgets.toml"
    )


def _errors(old: dict[str, Any], new: dict[str, Any], cell: Cell) -> list[str]:
    told = {"baseline": old.get(cell.id), "candidate": new.get(cell.id)}
    return [f"the {side} failed: {text}" for side, text in told.items() if isinstance(text, str)]


def _told(counts: dict[str, Any], cell: Cell) -> list[Any]:
    """The counts of a second process, if it has any."""
    return [found] if not isinstance(found := counts.get(cell.id, ""), str) else []


def _within_budget(cell: Cell, peaks: Iterable[int | None], budget: int | None) -> Iterator[Finding]:
    peak = max((peak for peak in peaks if peak is not None), default=None)
    if budget and peak:
        verdict: Verdict = "same" if peak <= budget else "regressed"
        ratio, note = peak / budget, "next to the budget"
        yield Finding(cell=cell.id, metric="host_budget", verdict=verdict, old=budget, new=peak, ratio=ratio, note=note)


def _accepted(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings; what was decided to be accepted is."""
    for finding in findings:
        reason = budgets.accepted().get((finding.cell, finding.metric))
        if reason and finding.verdict == "regressed":
            yield dataclasses.replace(finding, verdict="accepted", note=reason)
        else:
            yield finding
