"""What one run measures, in which order, and the results."""

import dataclasses
import itertools
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cells.cells import FAMILIES, Cell, cells_of
from benchmarks.cells.sizes import sizes
from suite.subjects.process.harness_files import name_of


@dataclasses.dataclass(frozen=True)
class Turn:
    """A cell of a subject, in one of the passes over all cells."""

    number: int
    asked_as: str
    cell: Cell

    @property
    def subject(self) -> str:
        """The subject's name, without its interpreter; of a path, the ``NAME`` that the file declares."""
        return name_of(self.asked_as)

    def __str__(self) -> str:
        return f"{self.subject}: {self.cell.id} ({self.number + 1})"


@dataclasses.dataclass
class Record:
    """The measurements of one cell of one subject."""

    outcome: str = "absent"
    reason: str | None = None
    samples: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    processes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    digest: dict[str, Any] | None = None
    losses: list[float | None] | None = None

    def end(self, outcome: str, reason: str) -> None:
        """Record why there is no measurement, and drop those of earlier passes."""
        vars(self).update(vars(Record(outcome=outcome, reason=reason)))


class Plan:
    """The turns of a run and their records.

    Args:
      subjects: each as ``NAME[=PYTHON]``; a name may be the path of a harness.
      cells: the cells to measure of each subject.
      passes: the number of passes over all cells; by default each cell's own.
      device: ``cpu``, ``gpu`` or ``tpu``.
      folder: the folder to make checkpoints in; None for a scratch folder.
      seed: the seed of the order.
    """

    def __init__(
        self,
        subjects: Sequence[str],
        cells: Sequence[Cell],
        *,
        passes: int | None = None,
        device: str = "cpu",
        folder: Path | None = None,
        seed: int = 0,
    ) -> None:
        self.subjects, self.cells, self.device, self.folder = list(subjects), list(cells), device, folder
        self.records: dict[tuple[str, str], Record] = defaultdict(Record)
        self.descriptions: dict[str, Mapping[str, Any]] = {}
        self.turns = self._in_order(passes, random.Random(seed))

    def record(self, turn: Turn) -> Record:
        """Return the record of a turn's cell and subject."""
        return self.records[turn.cell.id, turn.subject]

    def _in_order(self, passes: int | None, order: random.Random) -> list[Turn]:
        """Return the turns, pass after pass. Each pass shuffles its cells; the subjects of a cell are adjacent."""
        turns = []
        for number in range(max((passes or cell.passes for cell in self.cells), default=0)):
            due = [cell for cell in self.cells if number < (passes or cell.passes)]
            for cell in order.sample(due, len(due)):
                subjects = order.sample(self.subjects, len(self.subjects))
                turns += [Turn(number, *pair) for pair in itertools.product(subjects, [cell])]
        return turns


PLAN = pytest.StashKey[Plan]()


def smoke() -> Plan:
    """Return a plan with every cell once, of the reference at the smallest size: do the benchmarks still run?"""
    tiny = sizes("cpu")["tiny"]
    return Plan(["reference"], [cell for family in FAMILIES for cell in cells_of(tiny, family=family)], passes=1)
