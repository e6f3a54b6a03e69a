"""The terminal summary of a run: outcomes and duration by area, contracts that did not run, and broken laws."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from suite.session.failures import count_failures, list_failures

Row = Mapping[str, Any]

OUTCOMES = ("pass", "fail", "known", "fixed", "absent", "unavailable", "error")
_ALWAYS_SHOWN = ("pass", "fail")
# A table of more subjects (faults, for example) is too wide to read.
_MOST_COLUMNS = 10


def summarize(rows: Iterable[Row]) -> list[str]:
    """Return the lines to print: one table per subject, then one that compares them if there are two to ten."""
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
        *count_failures(rows),
        head,
        *body,
        "-" * len(head),
        total,
        *_not_run(rows),
        *list_failures(rows),
    ]


def _matrix(rows: list[Row], subjects: list[str]) -> list[str]:
    """Return a table of areas by subjects: cases passed, cases run, and known failures."""
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
    return ["passed / run, + known failures", head, *lines[:-1], "-" * len(head), lines[-1]]


def _cell(rows: list[Row]) -> str:
    counts = Counter(row["outcome"] for row in rows)
    if counts["unavailable"]:
        return "unavailable"
    run = counts.total() - counts["absent"]
    known = f" +{counts['known']}" if counts["known"] else ""
    return f"{counts['pass']}/{run}{known}" if run else "-"


def _area(row: Row) -> str:
    area: str = row["contract"].partition(".")[0]
    return area


def _line(area: str, rows: list[Row], columns: list[str], width: int) -> str:
    counts = Counter(row["outcome"] for row in rows)
    contracts = len({row["contract"] for row in rows})
    seconds = sum(row["seconds"] for row in rows)
    cells = "  ".join(f"{counts[name]:>{len(name)}}" for name in columns)
    return f"{area:<{width}}  {contracts:>9}  {len(rows):>5}  {cells}  {seconds:>7.1f}"


def _not_run(rows: list[Row]) -> list[str]:
    reasons = Counter(row["message"] for row in rows if row["outcome"] in ("absent", "unavailable"))
    return [f"not run: {count} {_cases(count)}, {reason}" for reason, count in reasons.most_common()]


def _cases(count: int) -> str:
    return "case" if count == 1 else "cases"


def _group(rows: Iterable[Row], key: Any) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)
