"""Report a run of the gate: a table in the terminal, ``gate.json``, and a summary in Markdown."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.gate.findings import Finding, Outcome, Value, outcome_of
from benchmarks.gate.pairing import RULES, WATCHED
from benchmarks.results.table_columns import number

_TITLES = ("cell", "metric", "baseline", "candidate", "ratio", "99.5 % interval", "pairs", "verdict")
_STYLES = {"regressed": "bold red", "error": "bold red", "improved": "green", "inconclusive": "yellow"}
# Outcome -> its text and style.
_ENDS = {
    Outcome.PASS: ("pass", "bold green"),
    Outcome.REGRESSION: ("regression", "bold red"),
    Outcome.ERROR: ("error: this run says nothing about the candidate", "bold red"),
    Outcome.INCONCLUSIVE: ("inconclusive: too noisy, or too little time", "yellow"),
}
_MEGABYTE = 1e6


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of a finished run.

    Attributes:
      subject: the name of the subject.
      baseline: the label of the baseline.
      candidate: the label of the candidate.
      seconds: duration of the run.
      findings: the findings of all cells.
    """

    subject: str
    baseline: str
    candidate: str
    seconds: float
    findings: Sequence[Finding]

    @property
    def outcome(self) -> Outcome:
        """The outcome of all findings."""
        return outcome_of(self.findings)

    @property
    def verdict(self) -> str:
        """The outcome and its basis, in one line."""
        same = sum(finding.verdict == "same" for finding in self.findings)
        cells = len({finding.cell for finding in self.findings if finding.metric == "result" or finding.pairs})
        return f"{_ENDS[self.outcome][0]} ({same} metrics of {cells} cells are the same, {self.seconds:.0f} s)"

    @property
    def title(self) -> str:
        """The title: subject, baseline and candidate."""
        return f"pi0-compat gate · {self.subject} · {self.baseline} → {self.candidate}"


def print_table(report: Report, console: Console) -> None:
    """Print every finding that is not "same", all timings, and the outcome."""
    table = Table(box=box.SIMPLE_HEAD, title=report.title, title_justify="left", title_style="bold")
    for name in _TITLES:
        table.add_column(name, justify="left" if name in ("cell", "metric", "verdict") else "right", overflow="fold")
    shown = [finding for finding in report.findings if _is_shown(finding)]
    for finding in shown:
        table.add_row(*(Text(text, style=_STYLES.get(finding.verdict, "")) for text in _row(finding)))
    console.print(table)
    for finding in shown:
        if finding.note:
            console.print(Text(f"{finding.cell} {finding.metric}: {finding.note}", style="dim"))
    console.print(Text(report.verdict, style=_ENDS[report.outcome][1]))


def write_json(report: Report, file: Path) -> None:
    """Write all findings."""
    content = {
        "schema": "pi0-compat/gate",
        "schema_version": 1,
        "outcome": report.outcome.name.lower(),
        "subject": report.subject,
        "baseline": report.baseline,
        "candidate": report.candidate,
        "seconds": round(report.seconds, 1),
        "findings": [dataclasses.asdict(finding) for finding in report.findings],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def markdown(report: Report) -> str:
    """Return the table as Markdown, for a pull request's summary."""
    rows = [_TITLES, ["---"] * len(_TITLES), *(_row(finding) for finding in report.findings if _is_shown(finding))]
    table = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows)
    notes = [f"* `{f.cell}` {f.metric}: {_first_line(f.note)}" for f in report.findings if _is_shown(f) and f.note]
    return "\n\n".join([f"### {report.title}", f"**{report.verdict}**", table, "\n".join(notes)]) + "\n"


def _is_shown(finding: Finding) -> bool:
    return finding.verdict != "same" or finding.metric in RULES | WATCHED or finding.cell == "contracts"


def _row(finding: Finding) -> list[str]:
    between = f"{finding.interval[0]:.2f} to {finding.interval[1]:.2f}" if finding.interval else ""
    ratio = f"{finding.ratio:.2f}" if finding.ratio is not None else ""
    values = (_value(finding.metric, value) for value in (finding.old, finding.new))
    return [finding.cell, finding.metric, *values, ratio, between, str(finding.pairs or ""), finding.verdict]


def _value(metric: str, value: Value) -> str:
    """Format a value with its unit: three significant digits, or a whole number for counts."""
    if not isinstance(value, int | float):
        return value or ""
    if "bytes" in metric or metric == "host_budget":
        return f"{number(value / _MEGABYTE)} MB"
    if metric.endswith("_s"):
        return f"{number(1000 * value)} ms"
    return str(value) if isinstance(value, int) else number(value)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
