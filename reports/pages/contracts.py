"""The page of every contract: its worst outcome by subject, and the reasons of failures."""

from collections import Counter
from collections.abc import Iterable, Sequence

from reports.pages.markdown import link, plain, table
from reports.pages.matrix import NONE_RAN
from reports.read.records import SEVERITIES, Record, area_of, severity_of
from reports.read.subject_columns import Column, by_contract

# The worst first. Cases that did not run matter only if none ran.
_WORST = ("fail", "error", "fixed", "known", "pass", "unavailable", "absent")
_BROKEN = ("fail", "error", "fixed")
KINDS = {
    "ours": "the harness or the suite is at fault",
    "theirs": "the implementation is at fault",
    "never": "the implementation does not intend to support it",
    "disputed": "it is disputed who is at fault",
}
_SHOWN = 3
_INTRODUCTION = """\
# Every contract, by subject

Written by `nox -s report` from the result files in [{folder}]({folder}). A cell shows the worst outcome among the cases
of a contract that ran; `known 2/5` means that 2 of 5 cases have this outcome.

| outcome | meaning |
|---|---|
| pass | the subject keeps the contract |
| known | the subject breaks the contract for a known reason, explained with a link [below](#known-failures) |
| fail | the subject breaks the contract |
| fixed | the subject keeps the contract, though it was known to break it |
| error | something other than the subject broke, such as a fixture |
| absent | the subject does not offer the operation that the contract needs |
| unavailable | the subject could not be started |
| {none_ran} | the contract did not run |

| severity of a failure | meaning |
|---|---|
| silent | accepted or computed wrong, and nobody is told |
| crash | it ends without an error of the loader's own: an IndexError, a killed process, a hang |
| unclear | refused, but without the file, the parameter or the way out; or refused although it is valid |
| not rated | the run is older than severities |
"""


def contracts(columns: Sequence[Column], *, folder: str) -> str:
    """Return the page.

    Args:
      columns: the columns of the tables.
      folder: the path from the page to the folder of the result files.
    """
    laws = {contract: row["law"] for contract, row in by_contract(columns).items()}
    by_area: dict[str, list[str]] = {}
    for contract in laws:
        by_area.setdefault(area_of({"contract": contract}), []).append(contract)
    outcomes = {column.title: _by_contract(column.rows) for column in columns}
    head = ["contract", *(plain(column.title) for column in columns), "law"]
    lines = [_INTRODUCTION.format(folder=folder, none_ran=NONE_RAN)]
    for area, ids in by_area.items():
        rows = [
            [f"`{id_}`", *(_cell(outcomes[c.title].get(id_, [])) for c in columns), plain(laws[id_])] for id_ in ids
        ]
        lines += [f"## {area}", "", *table(head, rows), ""]
    known = [line for column in columns for line in _failures(column, ("known",))]
    broken = [line for column in columns for line in _failures(column, _BROKEN)]
    lines += ["## Known failures", "", *(known or ["None.", ""])]
    lines += ["## Other failures", "", *broken] if broken else []
    not_run = [line for column in columns for line in _not_run(column)]
    lines += ["## Not run", "", *not_run] if not_run else []
    return "\n".join(lines).rstrip("\n") + "\n"


def _by_contract(rows: Iterable[Record]) -> dict[str, list[Record]]:
    by_contract: dict[str, list[Record]] = {}
    for row in rows:
        by_contract.setdefault(row["contract"], []).append(row)
    return by_contract


def _cell(rows: Sequence[Record]) -> str:
    """Return the worst outcome of a contract's cases, with its share unless all cases have it."""
    counts = Counter(row["outcome"] for row in rows)
    if not counts:
        return NONE_RAN
    worst = min(counts, key=_WORST.index)
    return worst if len(counts) == 1 else f"{worst} {counts[worst]}/{counts.total()}"


def _failures(column: Column, outcomes: Sequence[str]) -> list[str]:
    """Return a heading and a list of a subject's failures, the silent first, one line per contract and reason."""
    cases: dict[tuple[str, str, str], list[str]] = {}
    worst = {name: place for place, name in enumerate(SEVERITIES)}
    for row in sorted(column.rows, key=lambda row: (worst.get(severity_of(row), 9), row["contract"], row["case"])):
        if row["outcome"] in outcomes:
            cases.setdefault((severity_of(row), row["contract"], _why(row)), []).append(row["case"])
    totals = Counter(row["contract"] for row in column.rows)
    lines = [
        f"{_rated(severity)}`{name}`{_which(own, totals[name])}: {why}" for (severity, name, why), own in cases.items()
    ]
    return _listed(column, lines)


def _rated(severity: str) -> str:
    return f"**{severity}**: " if severity else ""


def _not_run(column: Column) -> list[str]:
    """Return a heading and a list of the reasons why cases did not run, the most frequent first."""
    outcomes = ("absent", "unavailable")
    reasons = Counter(row["message"] for row in column.rows if row["outcome"] in outcomes)
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return _listed(column, [f"{count} case{'s' * (count > 1)}: {plain(reason)}" for reason, count in ranked])


def _listed(column: Column, lines: Sequence[str]) -> list[str]:
    return [f"### {plain(column.title)}", "", *(f"* {line}" for line in lines), ""] if lines else []


def _which(cases: Sequence[str], total: int) -> str:
    """Return which of a contract's cases are meant; empty if all are."""
    if len(cases) == total:
        return ""
    shown = ", ".join(plain(case) for case in cases[:_SHOWN])
    return f", {len(cases)} of {total} cases ({shown}{', ...' if len(cases) > _SHOWN else ''})"


def _why(row: Record) -> str:
    """Return a known failure's reason, who is at fault, and the link; for other failures, outcome and message."""
    if row["outcome"] != "known":
        return plain(f"{row['outcome']}: {row['message']}")
    entry = row["expectation"]
    return f"{plain(entry['reason'])} ({KINDS[entry['kind']]}, {link('link', entry['link'])})"
