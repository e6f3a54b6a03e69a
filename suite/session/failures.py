"""The failures of a subject in the terminal: the silent ones first, one line per likely cause, the plainest law for it.

The plainest law is the one that needs the least of a subject: a wrong restore shows in the laws of restoring, loading,
and training, and the first of them is the one to read.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from suite.session.causes import cause
from suite.session.severity import SEVERITIES

Row = Mapping[str, Any]
_MOST_NAMES = 4


def count_failures(rows: Iterable[Row]) -> list[str]:
    """Return a line with the number of failures by severity, the worst first; none without a failure."""
    failed = [row for row in rows if row["outcome"] in ("fail", "known")]
    counts = Counter(row["severity"] for row in failed)
    known = Counter(row["severity"] for row in failed if row["outcome"] == "known")
    texts = [f"{counts[name]} {name} ({known[name]} known)" for name in SEVERITIES if counts[name]]
    return [f"failures: {', '.join(texts)}"] if texts else []


def list_failures(rows: Sequence[Row]) -> list[str]:
    """Return a line per known failure and reason, then one per likely cause of the others, then fixed and errors."""
    known = _groups(rows, "known", lambda row: (row["contract"], row["expectation"]["reason"]))
    unknown = _groups(rows, "fail", cause)
    return [
        *(f"known, {group[0]['severity']}: {name(group[0])} {_why(group[0])}{_more(group)}" for group in known),
        *(f"fail, {group[0]['severity']}: {_broken(group[0])}{_more(group)}" for group in unknown),
        *(f"{row['outcome']}: {_broken(row)}" for row in rows if row["outcome"] in ("fixed", "error")),
    ]


def name(row: Row) -> str:
    """Return the contract id, followed by the case if it has several."""
    return f"{row['contract']}[{row['case']}]" if row["case"] else str(row["contract"])


def _groups(rows: Sequence[Row], outcome: str, key: Callable[[Row], Any]) -> list[list[Row]]:
    """Return the rows of an outcome that are alike; groups by severity and size, the plainest law of each first."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        if row["outcome"] == outcome:
            groups.setdefault((row["severity"], key(row)), []).append(row)
    worst = [*SEVERITIES]
    ranked = sorted(groups.values(), key=lambda group: (worst.index(group[0]["severity"]), -len(group)))
    return [sorted(group, key=lambda row: (len(row["needs"]), row["contract"])) for group in ranked]


def _broken(row: Row) -> str:
    return f"{name(row)} {row['law']} ({row['message']})"


def _why(row: Row) -> str:
    """Return the expectation's reason and link."""
    return f"{row['expectation']['reason']} ({row['expectation']['link']})"


def _more(group: Sequence[Row]) -> str:
    """Return how many cases are alike, and of which other contracts; empty for one case."""
    if len(group) == 1:
        return ""
    others = [
        contract for contract in dict.fromkeys(row["contract"] for row in group) if contract != group[0]["contract"]
    ]
    names = ", ".join(others[:_MOST_NAMES])
    more = f", {len(others) - _MOST_NAMES} more" if len(others) > _MOST_NAMES else ""
    also = f", also of {names}{more}" if others else ""
    return f" [{len(group)} cases alike{also}]"
