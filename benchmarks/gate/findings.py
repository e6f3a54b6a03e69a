"""What the gate finds, and what all findings together mean."""

import dataclasses
import enum
from collections.abc import Collection
from typing import Literal

Verdict = Literal[
    "same",
    "improved",
    "regressed",
    "inconclusive",
    "error",
    "new",
    "retired",
    "absent",
    "accepted",
    "unstable",
    "skipped",
]
Value = float | str | None


class Outcome(enum.IntEnum):
    """How a run ends; the value is the exit status."""

    PASS = 0
    REGRESSION = 1
    ERROR = 2
    INCONCLUSIVE = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One metric of one cell.

    Attributes:
      cell: its id, or what else was looked at.
      metric: what was compared.
      verdict: what came of it.
      old: of the baseline.
      new: of the candidate.
      ratio: of candidate to baseline; of timings the median of pairs.
      interval: that the ratio of timings certainly lies in.
      pairs: of samples.
      note: what there is to say.
    """

    cell: str
    metric: str
    verdict: Verdict
    old: Value = None
    new: Value = None
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    pairs: int | None = None
    note: str = ""


def outcome_of(findings: Collection[Finding]) -> Outcome:
    """What all findings together mean; where nothing was compared, nothing has passed."""
    verdicts = {finding.verdict for finding in findings}
    if "error" in verdicts or not verdicts & {"same", "improved", "regressed"}:
        return Outcome.ERROR
    if "regressed" in verdicts:
        return Outcome.REGRESSION
    return Outcome.INCONCLUSIVE if "inconclusive" in verdicts else Outcome.PASS
