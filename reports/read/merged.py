"""Merge the runs of several machines: for each machine, cell and subject, the newest valid run.

Comparisons are strict. Two subjects are compared only within one run: on a shared machine seconds mean little, ratios
within a run do. Two machines are compared only if they measured the same fixture, configuration and suite version.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.results.summaries import Ratio, by_process, ratio
from reports.read.benchmark_runs import BenchmarkRun

Json = Mapping[str, Any]

REFERENCE = "reference"


@dataclass(frozen=True)
class Entry:
    """A cell in a run.

    Attributes:
      run: the run.
      cell: the cell.
    """

    run: BenchmarkRun
    cell: Json

    @property
    def id(self) -> str:
        return str(self.cell["id"])

    @property
    def subject(self) -> str:
        return str(self.cell["subject"])

    @property
    def machine(self) -> str:
        return self.run.machine

    @property
    def key(self) -> tuple[str, str, str]:
        """Machine, cell, subject."""
        return self.machine, self.id, self.subject

    @property
    def measured(self) -> bool:
        """Whether it was measured."""
        return bool(self.cell["outcome"] == "measured")

    @property
    def faults(self) -> list[str]:
        """Why the cell is invalid; empty if it is valid or was not measured."""
        wrong = [
            p for p in self.run.problems if p.invalid and (p.cell, p.subject) in (("", ""), (self.id, self.subject))
        ]
        return [problem.text for problem in wrong]

    @property
    def valid(self) -> bool:
        """Whether it was measured and obeys the rules."""
        return self.measured and not self.faults

    @property
    def fixture(self) -> Json | None:
        """The checkpoint that was read; None if none was."""
        listed = [fixture for fixture in self.run.result["fixtures"] if fixture["id"] == self.cell["fixture"]]
        return listed[0] if listed else None

    @property
    def version(self) -> str:
        """The subject's version."""
        return str(self.run.result["subjects"][self.subject]["version"])


def entries(runs: Iterable[BenchmarkRun]) -> Iterator[Entry]:
    """Yield every cell of every run."""
    return (Entry(run, cell) for run in runs for cell in run.result["cells"])


def newest(runs: Iterable[BenchmarkRun]) -> list[Entry]:
    """Return one entry per machine, cell and subject: the newest valid one, preferably without local changes."""
    kept: dict[tuple[str, str, str], Entry] = {}
    for entry in sorted(entries(runs), key=_worth):
        kept[entry.key] = entry
    return sorted(kept.values(), key=_place)


def side_by_side(runs: Iterable[BenchmarkRun]) -> list[Entry]:
    """Return one reference entry per machine and cell: from the newest run with other subjects, else the newest run."""
    kept: dict[tuple[str, str, str], Entry] = {}
    ours = [entry for entry in entries(runs) if entry.subject == REFERENCE and entry.valid]
    for entry in sorted(ours, key=lambda entry: (bool(beside(entry)), *_worth(entry))):
        kept[entry.key] = entry
    return sorted(kept.values(), key=_place)


def beside(entry: Entry) -> list[Entry]:
    """Return the valid entries of the same cell in the same run by other subjects."""
    return [other for other in entries([entry.run]) if other.id == entry.id and other != entry and other.valid]


def compared(entry: Entry, other: Entry) -> Ratio:
    """Return how many times faster ``entry`` is than ``other``, with a 95 % interval."""
    return ratio(by_process(entry.cell), by_process(other.cell))


def differs(entry: Entry, other: Entry) -> str:
    """Return what makes two machines' entries of a cell incomparable; empty if they are comparable."""
    ours, theirs = _question(entry), _question(other)
    return ", ".join(name for name in ours if ours[name] != theirs[name])


def reference_machine(merged: Sequence[Entry]) -> str:
    """Return the machine to compare with: the one with the most valid cells, then the first by name."""
    counts = {entry.machine: 0 for entry in merged}
    for entry in merged:
        counts[entry.machine] += entry.valid
    return min(counts, key=lambda machine: (-counts[machine], machine), default="")


def _question(entry: Entry) -> Json:
    """Return what was measured, by the page's words; counted operations distinguish configurations."""
    fixture, run = entry.fixture, entry.run.result
    version = str(run["run"].get("version", "0")).partition(".")[0]
    return {
        "fixture": fixture and fixture["sha256"],
        "configuration": (entry.cell["operation"], entry.cell["size"], entry.cell["options"], _counted(entry)),
        "suite version": (run["schema_version"], version),
    }


def _counted(entry: Entry) -> Json:
    names = ("batch", "flops_per_sample", "tokens_per_sample")
    return {name: entry.cell["values"][name] for name in names if name in entry.cell["values"]}


def _worth(entry: Entry) -> tuple[bool, bool, bool, str, str]:
    return entry.valid, entry.measured, not entry.run.dirty, entry.run.started, entry.run.file


def _place(entry: Entry) -> tuple[str, int, int, str, bool, str]:
    size, workload = ("tiny", "small", "full").index(entry.cell["size"]), _WORKLOADS.index(entry.cell["workload"])
    return entry.machine, -size, workload, entry.id, entry.subject != REFERENCE, entry.subject


_WORKLOADS = ("load", "step", "sampling", "lora")
