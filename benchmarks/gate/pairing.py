"""The second pass: pairs of fresh processes, one of each side, until their times and their memory are decided."""

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
# What decides, and what is only looked at when that is decided: others on the machine share its wall time.
RULES = {"cpu_s": STEADY, "host_peak_bytes": STEADY}
WATCHED = {"wall_s": NOISY}
# Below a megabyte a peak depends on what was free before.
_ROOM = 1 << 20

Sample = dict[str, Any]


class Sides(Protocol):
    """Where samples come from."""

    def pair(self, cells: Sequence[Cell], first: int) -> tuple[dict[str, Sample], dict[str, Sample]]:
        """The sample of each cell, by its id, of a fresh process of the baseline (0) and of the candidate (1)."""


@dataclasses.dataclass
class Pairs:
    """Pairs of samples of every cell, baseline and candidate.

    Attributes:
      sides: where they come from.
      seed: of the order of sides and cells.
      until: when to stop whatever is decided, as ``time.monotonic`` tells time.
      show: called before every pair with what is done, how many pairs were taken, and how many there may be.
    """

    sides: Sides
    seed: int = 0
    until: float = float("inf")
    show: Callable[[str, int, int], None] = lambda *_: None

    def __post_init__(self) -> None:
        self._order = random.Random(self.seed)
        self.taken: dict[str, list[tuple[Sample, Sample]]] = defaultdict(list)

    def decide(self, cells: Sequence[Cell]) -> list[Finding]:
        """Pairs of all cells until each is decided; what failed is measured once more, from the beginning."""
        for taken in range(0, MOST, BATCH):
            if not (due := [cell for cell in cells if self._is_open(cell)]) or not self._take(due, taken, BATCH):
                break
        findings = [finding for cell in cells for finding in self._findings(cell.id)]
        failed = {finding.cell for finding in findings if finding.verdict == "regressed"}
        return list(self._confirmed([cell for cell in cells if cell.id in failed], findings))

    def _take(self, cells: Sequence[Cell], taken: int, more: int) -> bool:
        """Take pairs while there is time; whether there was."""
        for number in range(taken, taken + more):
            if time.monotonic() > self.until:
                return False
            self.show(f"pairs of {len(cells)} cells", number, MOST)
            order = self._order.sample(list(cells), len(cells))
            # Whoever goes second finds other caches.
            old, new = self.sides.pair(order, self._order.randrange(2))
            for cell in cells:
                self.taken[cell.id].append((old[cell.id], new[cell.id]))
        return True

    def _confirmed(self, failed: Sequence[Cell], findings: list[Finding]) -> Iterator[Finding]:
        """The findings; what regressed has to regress in twenty fresh pairs too."""
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
                note = f"{finding.pairs} pairs said {finding.ratio:.2f} x, fresh ones do not"
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
        """What is decided of a cell: what the system tells."""
        return {
            metric: rule
            for metric, rule in RULES.items()
            if all(x[metric] is not None for p in self.taken[cell] for x in p)
        }

    def _finding(self, cell: str, metric: str, rule: Rule, undecided: Verdict) -> Finding:
        if not (ratios := self._ratios(cell, metric)):
            return Finding(cell=cell, metric=metric, verdict="inconclusive", note="there was no time for it")
        decision, (ratio, low, high) = decide(ratios, rule), estimate(ratios)
        old, new = (sorted(pair[side][metric] for pair in self.taken[cell])[len(ratios) // 2] for side in (0, 1))
        return Finding(
            cell=cell,
            metric=metric,
            verdict=undecided if decision == "undecided" else decision,
            old=old,
            new=new,
            ratio=ratio,
            # Of fewer than nine pairs it has no end.
            interval=(low, high) if math.isfinite(high) else None,
            pairs=len(ratios),
        )

    def _ratios(self, cell: str, metric: str) -> list[float]:
        room = _ROOM if metric.endswith("_bytes") else 0
        return [(new[metric] + room) / (old[metric] + room) for old, new in self.taken[cell]]
