"""The page that has every contract: by subject its worst outcome, and why what fails fails."""

from collections import Counter
from collections.abc import Iterable, Sequence

from reports.pages.markdown import link, plain, table
from reports.pages.matrix import NOT_ASKED
from reports.read.columns import Column, by_contract
from reports.read.records import Record, area_of

# The worst first. What was not asked says nothing, so it counts only where nothing was.
_WORST = ("fail", "error", "fixed", "known", "pass", "unavailable", "absent")
_BROKEN = ("fail", "error", "fixed")
KINDS = {
    "ours": "the harness or the suite is at fault",
    "theirs": "the implementation is at fault",
    "never": "the implementation does not mean to keep it",
    "disputed": "who is at fault is not agreed",
}
_SHOWN = 3
_INTRODUCTION = """\
# Every contract, by subject

Written by `nox -s report` from the result files in [{folder}]({folder}). A cell has the worst outcome among the cases
of a contract that were asked; `known 2/5`: it is that of 2 of its 5 cases.

| outcome | meaning |
|---|---|
| pass | it keeps the law |
| known | it breaks the law, which was looked at: reasons and links are [below](#known-failures) |
| fail | it breaks the law |
| fixed | it keeps the law, though it was known to break it |
| error | something else than the subject broke, such as a fixture |
| absent | the subject does not offer what the contract asks for |
| unavailable | the subject could not be had |
| {not_asked} | the run did not ask |
"""


def contracts(columns: Sequence[Column], *, folder: str) -> str:
    """The page.

    Args:
      columns: those of the tables.
      folder: the path of the folder of the result files, from the page.
    """
    laws = {contract: row["law"] for contract, row in by_contract(columns).items()}
    by_area: dict[str, list[str]] = {}
    for contract in laws:
        by_area.setdefault(area_of({"contract": contract}), []).append(contract)
    outcomes = {column.title: _by_contract(column.rows) for column in columns}
    head = ["contract", *(plain(column.title) for column in columns), "law"]
    lines = [_INTRODUCTION.format(folder=folder, not_asked=NOT_ASKED)]
    for area, ids in by_area.items():
        rows = [
            [f"`{id_}`", *(_cell(outcomes[c.title].get(id_, [])) for c in columns), plain(laws[id_])] for id_ in ids
        ]
        lines += [f"## {area}", "", *table(head, rows), ""]
    known = [line for column in columns for line in _failures(column, ("known",))]
    broken = [line for column in columns for line in _failures(column, _BROKEN)]
    lines += ["## Known failures", "", *(known or ["None.", ""])]
    lines += ["## Other failures", "", *broken] if broken else []
    not_asked = [line for column in columns for line in _not_asked(column)]
    lines += ["## Not asked", "", *not_asked] if not_asked else []
    return "\n".join(lines).rstrip("\n") + "\n"


def _by_contract(rows: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for row in rows:
        found.setdefault(row["contract"], []).append(row)
    return found


def _cell(rows: Sequence[Record]) -> str:
    """The worst outcome of a contract's cases, and of how many it is, if not of all."""
    counts = Counter(row["outcome"] for row in rows)
    if not counts:
        return NOT_ASKED
    worst = min(counts, key=_WORST.index)
    return worst if len(counts) == 1 else f"{worst} {counts[worst]}/{counts.total()}"


def _failures(column: Column, outcomes: Sequence[str]) -> list[str]:
    """A heading and a list of a subject's failures, those of a contract with the same reason in one line."""
    cases: dict[tuple[str, str], list[str]] = {}
    for row in sorted(column.rows, key=lambda row: (row["contract"], row["case"])):
        if row["outcome"] in outcomes:
            cases.setdefault((row["contract"], _why(row)), []).append(row["case"])
    totals = Counter(row["contract"] for row in column.rows)
    return _listed(column, [f"`{name}`{_which(own, totals[name])}: {why}" for (name, why), own in cases.items()])


def _not_asked(column: Column) -> list[str]:
    """A heading and a list of why a subject was not asked, the most frequent reason first."""
    outcomes = ("absent", "unavailable")
    reasons = Counter(row["message"] for row in column.rows if row["outcome"] in outcomes)
    ranked = sorted(reasons.items(), key=lambda found: (-found[1], found[0]))
    return _listed(column, [f"{count} case{'s' * (count > 1)}: {plain(reason)}" for reason, count in ranked])


def _listed(column: Column, lines: Sequence[str]) -> list[str]:
    return [f"### {plain(column.title)}", "", *(f"* {line}" for line in lines), ""] if lines else []


def _which(cases: Sequence[str], total: int) -> str:
    """Which of a contract's cases, if it has several."""
    if len(cases) == total:
        return ""
    shown = ", ".join(plain(case) for case in cases[:_SHOWN])
    return f", {len(cases)} of {total} cases ({shown}{', ...' if len(cases) > _SHOWN else ''})"


def _why(row: Record) -> str:
    """Of a known failure the reason, whose fault it is, and the link; else what the run said."""
    if row["outcome"] != "known":
        return plain(f"{row['outcome']}: {row['message']}")
    entry = row["expectation"]
    return f"{plain(entry['reason'])} ({KINDS[entry['kind']]}, {link('link', entry['link'])})"
