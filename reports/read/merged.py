"""Runs of several machines put together: of each machine, cell and subject the newest run that counts.

What is compared with what is strict. Two subjects are compared within one run only: seconds of a shared machine mean
little, ratios of one run do. Two machines are compared where they measured the same: fixture, configuration, suite.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.results.summaries import Ratio, by_process, ratio
from reports.read.runs import Run

Json = Mapping[str, Any]

REFERENCE = "reference"


@dataclass(frozen=True)
class Entry:
    """A cell of a run.

    Attributes:
      run: the run.
      cell: the cell.
    """

    run: Run
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
        """Whether there are samples."""
        return bool(self.cell["outcome"] == "measured")

    @property
    def faults(self) -> list[str]:
        """Why the cell does not count; empty if it does, or was not measured."""
        wrong = [
            p for p in self.run.problems if p.invalid and (p.cell, p.subject) in (("", ""), (self.id, self.subject))
        ]
        return [problem.text for problem in wrong]

    @property
    def valid(self) -> bool:
        """Whether it was measured and counts."""
        return self.measured and not self.faults

    @property
    def fixture(self) -> Json | None:
        """What was read; None: nothing."""
        found = [fixture for fixture in self.run.result["fixtures"] if fixture["id"] == self.cell["fixture"]]
        return found[0] if found else None

    @property
    def version(self) -> str:
        """Of the subject."""
        return str(self.run.result["subjects"][self.subject]["version"])


def entries(runs: Iterable[Run]) -> Iterator[Entry]:
    """Every cell of every run."""
    return (Entry(run, cell) for run in runs for cell in run.result["cells"])


def newest(runs: Iterable[Run]) -> list[Entry]:
    """One entry a machine, cell and subject: the newest of those that count, if there is one without local changes."""
    found: dict[tuple[str, str, str], Entry] = {}
    for entry in sorted(entries(runs), key=_worth):
        found[entry.key] = entry
    return sorted(found.values(), key=_place)


def side_by_side(runs: Iterable[Run]) -> list[Entry]:
    """One entry of the reference a machine and cell: of the newest run that measured others too, else of the newest."""
    found: dict[tuple[str, str, str], Entry] = {}
    ours = [entry for entry in entries(runs) if entry.subject == REFERENCE and entry.valid]
    for entry in sorted(ours, key=lambda entry: (bool(beside(entry)), *_worth(entry))):
        found[entry.key] = entry
    return sorted(found.values(), key=_place)


def beside(entry: Entry) -> list[Entry]:
    """The same cell of other subjects, of the same run, that count."""
    return [other for other in entries([entry.run]) if other.id == entry.id and other != entry and other.valid]


def compared(entry: Entry, other: Entry) -> Ratio:
    """How many times faster ``entry`` is than ``other``, with an interval of 95 %."""
    return ratio(by_process(entry.cell), by_process(other.cell))


def differs(entry: Entry, other: Entry) -> str:
    """What keeps two machines' entries of a cell from being compared; empty if nothing does."""
    ours, theirs = _question(entry), _question(other)
    return ", ".join(name for name in ours if ours[name] != theirs[name])


def reference_machine(found: Sequence[Entry]) -> str:
    """The machine that others are compared with: the one with the most cells that count, then the first by name."""
    counts = {entry.machine: 0 for entry in found}
    for entry in found:
        counts[entry.machine] += entry.valid
    return min(counts, key=lambda machine: (-counts[machine], machine), default="")


def _question(entry: Entry) -> Json:
    """What was asked, by the words that the page has for it. Counted operations tell configurations apart."""
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
