"""Summarize each subject: its cases by outcome, in total and by area."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.read.records import area_of, failures
from reports.read.subject_columns import Column, by_contract

# The outcomes of cases that ran, the worst first.
RAN = ("fail", "error", "fixed", "known", "pass")
_BROKEN = ("fail", "error", "known")
_ABOUT = {
    "reference": "this project's own, in JAX",
    "gemma": "DeepMind's library, for the language model",
    "lerobot": "LeRobot's PI0Policy, in PyTorch",
    "openpi": "Physical Intelligence's own, in JAX",
    "openpi_pytorch": "Physical Intelligence's own, in PyTorch",
    "peft": "LoRA on transformers' pi0",
    "transformers": "Hugging Face's pi0, in PyTorch",
    "transformers-paligemma": "Hugging Face's PaliGemma",
}
_SHOWN = 4


@dataclass(frozen=True)
class Standing:
    """The outcomes of a subject's cases.

    Attributes:
      column: the subject.
      counts: outcome -> cases.
      areas: area -> outcome -> cases.
      contracts: contract -> outcome -> cases.
    """

    column: Column
    counts: Mapping[str, int]
    areas: Mapping[str, Mapping[str, int]]
    contracts: Mapping[str, Mapping[str, int]]

    @property
    def about(self) -> str:
        """A short description of the subject; empty for an unknown one."""
        return _ABOUT.get(self.column.name, "")

    @property
    def ran(self) -> int:
        return ran(self.counts)

    @property
    def passed(self) -> int:
        """Cases that pass, including those that were known to fail."""
        return self.counts["pass"] + self.counts["fixed"]

    @property
    def failures(self) -> str:
        """The number of failures by severity, the worst first; empty if nothing fails."""
        return failures(self.column.rows)

    @property
    def known(self) -> int:
        return self.counts["known"]

    @property
    def failed(self) -> int:
        """Cases that fail without an explanation."""
        return self.counts["fail"] + self.counts["error"]

    @property
    def weakest(self) -> list[tuple[str, int]]:
        """The areas with the most failing cases, three at most."""
        broken = {area: sum(counts[name] for name in _BROKEN) for area, counts in self.areas.items()}
        ranked = sorted(broken.items(), key=lambda item: (-item[1], item[0]))
        return [(area, count) for area, count in ranked[:3] if count]


def standing(column: Column) -> Standing:
    """Summarize a subject's rows."""
    areas, contracts = dict[str, Counter[str]](), dict[str, Counter[str]]()
    for row in column.rows:
        areas.setdefault(area_of(row), Counter())[row["outcome"]] += 1
        contracts.setdefault(row["contract"], Counter())[row["outcome"]] += 1
    return Standing(column, sum(areas.values(), Counter()), dict(sorted(areas.items())), contracts)


@dataclass(frozen=True)
class BrokenContract:
    """A contract, the number of subjects that break it, and the number that ran it."""

    contract: str
    law: str
    broken: int
    ran: int


def most_broken(standings: Sequence[Standing]) -> list[BrokenContract]:
    """Return the few contracts that the most subjects break."""
    laws = by_contract([each.column for each in standings])
    by_subject = {contract: [each.contracts.get(contract, {}) for each in standings] for contract in laws}
    counted = [
        BrokenContract(
            contract,
            row["law"],
            sum(map(_is_broken, by_subject[contract])),
            sum(map(bool, map(ran, by_subject[contract]))),
        )
        for contract, row in laws.items()
    ]
    ranked = sorted(counted, key=lambda each: (-each.broken, each.contract))
    return [each for each in ranked[:_SHOWN] if each.broken]


def ran(counts: Mapping[str, int]) -> int:
    """Return how many cases ran."""
    return sum(counts.get(name, 0) for name in RAN)


def _is_broken(counts: Mapping[str, int]) -> bool:
    return any(counts.get(name) for name in _BROKEN)


def worst(counts: Mapping[str, int]) -> str:
    """Return the worst outcome of several cases; cases that did not run matter only if none ran."""
    return next((name for name in (*RAN, "unavailable", "absent") if counts.get(name)), "")


def rows_of_chart(standings: Sequence[Standing]) -> list[dict[str, str | float]]:
    """Return the rows of ``reports.draw.charts.standing``."""
    shown = [each for each in standings if each.ran]
    return [
        {"subject": each.column.title, "outcome": outcome, "share": count / each.ran, "place": place}
        for each in shown
        for place, (outcome, count) in enumerate((("pass", each.passed), ("known", each.known), ("fail", each.failed)))
        if count
    ]
