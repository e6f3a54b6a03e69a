"""What a run of the gate prints and writes for made-up findings."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.gate.findings import Finding, Outcome, Verdict, outcome_of
from benchmarks.gate.gate_report import Report, markdown, print_table, write_json

CELL = "load/restore/mini/warm"
FINDINGS = [
    Finding(cell=CELL, metric="result", verdict="same", note="50 parameters"),
    Finding(cell=CELL, metric="bytes_allocated", verdict="regressed", old=96_000_000, new=104_000_000, ratio=1.083),
    Finding(
        cell=CELL,
        metric="cpu_s",
        verdict="same",
        old=0.1,
        new=0.101,
        ratio=1.01,
        interval=(0.98, 1.04),
        pairs=20,
        note="a | b",
    ),
]
REPORT = Report("reference", "1a2b3c4", "the working tree", 61.2, FINDINGS)


def printed(report: Report) -> str:
    console = Console(width=140, file=io.StringIO())
    print_table(report, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        (["same"], Outcome.PASS),
        (["improved", "skipped", "absent", "new", "retired"], Outcome.PASS),
        (["same", "accepted", "unstable"], Outcome.PASS),
        (["same", "regressed", "inconclusive"], Outcome.REGRESSION),
        (["same", "regressed", "error"], Outcome.ERROR),
        (["same", "inconclusive"], Outcome.INCONCLUSIVE),
        (["skipped", "absent"], Outcome.ERROR),
        ([], Outcome.ERROR),
    ],
)
def test_findings_add_up(verdicts: list[Verdict], outcome: Outcome) -> None:
    assert outcome_of([Finding(cell="", metric="", verdict=verdict) for verdict in verdicts]) is outcome


def test_statuses_are_as_documented() -> None:
    assert [int(outcome) for outcome in Outcome] == [0, 1, 2, 3]


def test_the_table_has_what_changed_and_all_times() -> None:
    lines = [" ".join(line.split()) for line in printed(REPORT).splitlines()]
    assert f"{CELL} bytes_allocated 96.0 MB 104 MB 1.08 regressed" in lines
    assert f"{CELL} cpu_s 100 ms 101 ms 1.01 0.98 to 1.04 20 same" in lines
    assert not any("50 parameters" in line for line in lines)
    assert lines[-1] == "regression (2 metrics of 1 cells are the same, 61 s)"


def test_the_file_has_everything(tmp_path: Path) -> None:
    write_json(REPORT, tmp_path / "new" / "gate.json")
    written = json.loads((tmp_path / "new" / "gate.json").read_text())
    assert (written["outcome"], written["baseline"], len(written["findings"])) == ("regression", "1a2b3c4", 3)
    assert written["findings"][2]["interval"] == [0.98, 1.04]


def test_the_summary_is_a_table_of_markdown() -> None:
    lines = markdown(REPORT).splitlines()
    assert lines[0] == "### pi0-compat gate · reference · 1a2b3c4 → the working tree"
    rows = [line for line in lines if line.startswith("|")]
    assert len({row.count(" | ") for row in rows}) == 1
    assert f"* `{CELL}` cpu_s: a | b" in lines
