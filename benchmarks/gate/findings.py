"""The gate's findings and the outcome of a run."""

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
    """The outcome of a run; the value is the exit status."""

    PASS = 0
    REGRESSION = 1
    ERROR = 2
    INCONCLUSIVE = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """The result for one metric of one cell.

    Attributes:
      cell: the cell's id, or another name for what was examined.
      metric: the compared metric.
      verdict: the result of the comparison.
      old: the baseline's value.
      new: the candidate's value.
      ratio: candidate over baseline; for timings, the median over pairs.
      interval: the confidence interval of a timing's ratio.
      pairs: number of sample pairs.
      note: an explanation.
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
    """Return the outcome of all findings; a run that compared nothing is an error."""
    verdicts = {finding.verdict for finding in findings}
    if "error" in verdicts or not verdicts & {"same", "improved", "regressed"}:
        return Outcome.ERROR
    if "regressed" in verdicts:
        return Outcome.REGRESSION
    return Outcome.INCONCLUSIVE if "inconclusive" in verdicts else Outcome.PASS
