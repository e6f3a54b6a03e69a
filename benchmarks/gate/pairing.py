"""The second pass: sample pairs of fresh processes, one per side, until time and memory are decided."""

import dataclasses
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from benchmarks.cells.cells import Cell
from benchmarks.gate.findings import Finding, Verdict
from benchmarks.gate.rule import NOISY, STEADY, Rule, decide, estimate

BATCH, MOST, CONFIRMING = 10, 40, 20
# Metrics that decide, and metrics that are only watched: wall time depends on other load on the machine.
RULES = {"cpu_s": STEADY, "host_peak_bytes": STEADY}
WATCHED = {"wall_s": NOISY}
# Below a megabyte, a peak depends on the memory that was free before.
_ROOM = 1 << 20

Sample = dict[str, Any]


class Sides(Protocol):
    """A source of samples."""

    def pair(self, cells: Sequence[Cell], first: int) -> tuple[dict[str, Sample], dict[str, Sample]]:
        """Return each cell's sample, by id, from a fresh process of the baseline (0) and of the candidate (1)."""


@dataclasses.dataclass
class Pairs:
    """Pairs of samples, baseline and candidate, of every cell.

    Attributes:
      sides: the source of samples.
      seed: seed of the order of sides and cells.
      until: when to stop even if undecided, on the clock of ``time.monotonic``.
      show: called before every pair with the activity, the number of pairs taken, and their maximum.
    """

    sides: Sides
    seed: int = 0
    until: float = float("inf")
    show: Callable[[str, int, int], None] = lambda *_: None

    def __post_init__(self) -> None:
        self._order = random.Random(self.seed)
        self.taken: dict[str, list[tuple[Sample, Sample]]] = defaultdict(list)

    def decide(self, cells: Sequence[Cell]) -> list[Finding]:
        """Take pairs of all cells until each is decided; measure failed cells once more, with fresh pairs."""
        for taken in range(0, MOST, BATCH):
            if not (due := [cell for cell in cells if self._is_open(cell)]) or not self._take(due, taken, BATCH):
                break
        findings = [finding for cell in cells for finding in self._findings(cell.id)]
        failed = {finding.cell for finding in findings if finding.verdict == "regressed"}
        return list(self._confirmed([cell for cell in cells if cell.id in failed], findings))

    def _take(self, cells: Sequence[Cell], taken: int, more: int) -> bool:
        """Take ``more`` pairs; return False if time runs out."""
        for number in range(taken, taken + more):
            if time.monotonic() > self.until:
                return False
            self.show(f"pairs of {len(cells)} cells", number, MOST)
            order = self._order.sample(list(cells), len(cells))
            # The second process finds warmer caches, so the order alternates at random.
            old, new = self.sides.pair(order, self._order.randrange(2))
            for cell in cells:
                self.taken[cell.id].append((old[cell.id], new[cell.id]))
        return True

    def _confirmed(self, failed: Sequence[Cell], findings: list[Finding]) -> Iterator[Finding]:
        """Yield the findings; a regression counts only if twenty fresh pairs confirm it."""
        again = Pairs(self.sides, self.seed + 1, self.until, self.show)
        whole = bool(failed) and again._take(failed, 0, CONFIRMING)
        for finding in findings:
            if finding.verdict != "regressed" or not whole:
                yield finding
                continue
            second = next(f for f in again._findings(finding.cell) if f.metric == finding.metric)
            if second.verdict == "regressed":
                yield dataclasses.replace(finding, note=f"{CONFIRMING} fresh pairs: {second.ratio:.2f} x")
            else:
                note = f"{finding.pairs} pairs showed {finding.ratio:.2f} x, fresh pairs do not"
                yield dataclasses.replace(second, note=note)

    def _is_open(self, cell: Cell) -> bool:
        return not self.taken[cell.id] or any(
            decide(self._ratios(cell.id, metric), rule) == "undecided" for metric, rule in self._rules(cell.id).items()
        )

    def _findings(self, cell: str) -> Iterator[Finding]:
        for metric, rule in self._rules(cell).items():
            yield self._finding(cell, metric, rule, "inconclusive")
        for metric, rule in WATCHED.items():
            yield self._finding(cell, metric, rule, "same")

    def _rules(self, cell: str) -> dict[str, Rule]:
        """Return the rules that apply to a cell: those whose metrics the system reports."""
        return {
            metric: rule
            for metric, rule in RULES.items()
            if all(x[metric] is not None for p in self.taken[cell] for x in p)
        }

    def _finding(self, cell: str, metric: str, rule: Rule, undecided: Verdict) -> Finding:
        if not (ratios := self._ratios(cell, metric)):
            return Finding(cell=cell, metric=metric, verdict="inconclusive", note="not enough time")
        decision, (ratio, low, high) = decide(ratios, rule), estimate(ratios)
        old, new = (sorted(pair[side][metric] for pair in self.taken[cell])[len(ratios) // 2] for side in (0, 1))
        return Finding(
            cell=cell,
            metric=metric,
            verdict=undecided if decision == "undecided" else decision,
            old=old,
            new=new,
            ratio=ratio,
            # With fewer than nine pairs, the interval is unbounded.
            interval=(low, high) if math.isfinite(high) else None,
            pairs=len(ratios),
        )

    def _ratios(self, cell: str, metric: str) -> list[float]:
        room = _ROOM if metric.endswith("_bytes") else 0
        return [(new[metric] + room) / (old[metric] + room) for old, new in self.taken[cell]]
