"""The terminal summary of a run: contracts by area, what each took, and what was not asked and why."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]

OUTCOMES = ("pass", "fail", "known", "fixed", "absent", "unavailable", "error")
_ALWAYS_SHOWN = ("pass", "fail")


def summarize(rows: Iterable[Row]) -> list[str]:
    """The lines to print, one table a subject."""
    by_subject = _group(rows, lambda row: row["subject"])
    return [line for subject, own in by_subject.items() for line in _table(subject, own)]


def _table(subject: str, rows: list[Row]) -> list[str]:
    seen = {row["outcome"] for row in rows}
    columns = [name for name in OUTCOMES if name in seen or name in _ALWAYS_SHOWN]
    by_area = _group(rows, lambda row: row["contract"].partition(".")[0])
    width = max(len(name) for name in (*by_area, "total"))
    head = f"{'area':<{width}}  contracts  cases  {'  '.join(columns)}  seconds"
    body = [_line(area, own, columns, width) for area, own in sorted(by_area.items())]
    total = _line("total", rows, columns, width)
    return [
        f"subject {subject}",
        head,
        *body,
        "-" * len(head),
        total,
        *_not_asked(rows),
        *_worst(rows),
    ]


def _line(area: str, rows: list[Row], columns: list[str], width: int) -> str:
    counts = Counter(row["outcome"] for row in rows)
    contracts = len({row["contract"] for row in rows})
    seconds = sum(row["seconds"] for row in rows)
    cells = "  ".join(f"{counts[name]:>{len(name)}}" for name in columns)
    return f"{area:<{width}}  {contracts:>9}  {len(rows):>5}  {cells}  {seconds:>7.1f}"


def _not_asked(rows: list[Row]) -> list[str]:
    reasons = Counter(row["message"] for row in rows if row["outcome"] in ("absent", "unavailable"))
    return [f"not asked: {count:>3} cases, the subject {reason}" for reason, count in reasons.most_common()]


def _worst(rows: list[Row]) -> list[str]:
    """Every law that was broken, with the sentence it states."""
    broken = [row for row in rows if row["outcome"] in ("fail", "error")]
    return [f"{row['outcome']}: {_name(row)} {row['law']} ({row['message']})" for row in broken]


def _name(row: Row) -> str:
    """The contract, with the case if it has several."""
    return f"{row['contract']}[{row['case']}]" if row["case"] else str(row["contract"])


def _group(rows: Iterable[Row], key: Any) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)
