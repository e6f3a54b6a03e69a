"""The terminal summary of a run: contracts by area, what each took, and what was not asked and why."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]

OUTCOMES = ("pass", "fail", "known", "fixed", "absent", "unavailable", "error")
_ALWAYS_SHOWN = ("pass", "fail")
# A table of more subjects, of faults for one, is too wide to be read.
_MOST_COLUMNS = 10


def summarize(rows: Iterable[Row]) -> list[str]:
    """The lines to print: one table a subject, and if there are several, but not many, one of all."""
    rows = list(rows)
    by_subject = _group(rows, lambda row: row["subject"])
    tables = [line for subject, own in by_subject.items() for line in _table(subject, own)]
    return [*tables, *(_matrix(rows, list(by_subject)) if 1 < len(by_subject) <= _MOST_COLUMNS else [])]


def _table(subject: str, rows: list[Row]) -> list[str]:
    seen = {row["outcome"] for row in rows}
    columns = [name for name in OUTCOMES if name in seen or name in _ALWAYS_SHOWN]
    by_area = _group(rows, _area)
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


def _matrix(rows: list[Row], subjects: list[str]) -> list[str]:
    """Areas by subjects: cases that passed, of those that were asked, and how many of the others are known to fail."""
    areas = sorted(_group(rows, _area))
    cells = {
        (area, subject): _cell([row for row in rows if row["subject"] == subject and area in ("total", _area(row))])
        for area in (*areas, "total")
        for subject in subjects
    }
    width = max(len(area) for area in (*areas, "total"))
    widths = {subject: max(len(subject), *(len(cells[area, subject]) for area in areas)) for subject in subjects}
    head = "  ".join([f"{'area':<{width}}", *(f"{subject:>{widths[subject]}}" for subject in subjects)])
    lines = [
        "  ".join([f"{area:<{width}}", *(f"{cells[area, subject]:>{widths[subject]}}" for subject in subjects)])
        for area in (*areas, "total")
    ]
    return ["passed / asked, + known failures", head, *lines[:-1], "-" * len(head), lines[-1]]


def _cell(rows: list[Row]) -> str:
    counts = Counter(row["outcome"] for row in rows)
    if counts["unavailable"]:
        return "unavailable"
    asked = counts.total() - counts["absent"]
    known = f" +{counts['known']}" if counts["known"] else ""
    return f"{counts['pass']}/{asked}{known}" if asked else "-"


def _area(row: Row) -> str:
    area: str = row["contract"].partition(".")[0]
    return area


def _line(area: str, rows: list[Row], columns: list[str], width: int) -> str:
    counts = Counter(row["outcome"] for row in rows)
    contracts = len({row["contract"] for row in rows})
    seconds = sum(row["seconds"] for row in rows)
    cells = "  ".join(f"{counts[name]:>{len(name)}}" for name in columns)
    return f"{area:<{width}}  {contracts:>9}  {len(rows):>5}  {cells}  {seconds:>7.1f}"


def _not_asked(rows: list[Row]) -> list[str]:
    reasons = Counter(row["message"] for row in rows if row["outcome"] in ("absent", "unavailable"))
    return [f"not asked: {count:>3} cases, the subject {_is(reason)}" for reason, count in reasons.most_common()]


def _is(reason: str) -> str:
    return f"is {reason}" if reason.startswith("unavailable") else reason


def _worst(rows: list[Row]) -> list[str]:
    """Every law that was broken, with the sentence it states; of those that are known to be, why."""
    broken = [row for row in rows if row["outcome"] in ("fail", "fixed", "error")]
    return [
        *(f"known: {_name(row)} {_why(row)}" for row in rows if row["outcome"] == "known"),
        *(f"{row['outcome']}: {_name(row)} {row['law']} ({row['message']})" for row in broken),
    ]


def _why(row: Row) -> str:
    """The reason that an expectation gives, and its link."""
    return f"{row['expectation']['reason']} ({row['expectation']['link']})"


def _name(row: Row) -> str:
    """The contract, with the case if it has several."""
    return f"{row['contract']}[{row['case']}]" if row["case"] else str(row["contract"])


def _group(rows: Iterable[Row], key: Any) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)
