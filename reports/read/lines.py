"""The full table: one line per machine, cell and subject, with every number of the pages and ``summary.csv``."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from benchmarks.results.summaries import operations_per_second
from reports.read import figures
from reports.read.merged import REFERENCE, Entry, compared, differs, entries, reference_machine

STATES = {"out_of_memory": "out of memory", "failed": "failed", "absent": "absent"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table; None means unknown or not measured.

    Attributes:
      state: ``valid``, ``dirty`` (measured with local changes), ``invalid``, or why there is no number.
      reason: why the state is not ``valid``.
      times_reference: speed relative to the reference in the same run.
      times_machine: speed relative to the same cell on the reference machine, or ``n/c`` and what differs.
    """

    machine: str
    subject: str
    version: str
    cell: str
    workload: str
    size: str
    state: str
    reason: str
    batch: int | None
    devices: int | None
    step_time_s: float | None
    p95_s: float | None
    samples_per_sec: float | None
    tokens_per_sec: float | None
    load_gb_per_sec: float | None
    host_peak_bytes: float | None
    device_peak_bytes: float | None
    mfu_of_measured: float | None
    mfu_of_datasheet: float | None
    tflops: float | None
    compile_s: float | None
    compile_cached_s: float | None
    times_reference: float | None
    times_machine: float | str | None
    samples: int
    processes: int
    started: str
    commit: str
    file: str


def lines(merged: Sequence[Entry]) -> list[Line]:
    """Return the lines of merged entries, in the same order."""
    base = reference_machine(merged)
    on_base = {(entry.id, entry.subject): entry for entry in merged if entry.machine == base and entry.valid}
    return [_line(entry, on_base.get((entry.id, entry.subject)), base) for entry in merged]


def summary(rows: Sequence[Line]) -> str:
    """Format lines as CSV; numbers have nine digits, since further digits may depend on package versions."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Line)], lineterminator="\n")
    writer.writeheader()
    for line in rows:
        writer.writerow({name: _quoted(value) for name, value in asdict(line).items()})
    return text.getvalue()


def _line(entry: Entry, on_base: Entry | None, base: str) -> Line:
    rate, counted = (figures.samples_per_second(entry), entry.cell["values"]) if entry.measured else (None, {})
    tokens, operations = counted.get("tokens_per_sample"), operations_per_second(entry.cell) if entry.measured else None
    return Line(
        machine=entry.machine,
        subject=entry.subject,
        version=entry.version,
        cell=entry.id,
        workload=entry.cell["workload"],
        size=entry.cell["size"],
        state=_state(entry),
        reason="; ".join(entry.faults) or entry.cell["reason"] or "",
        batch=entry.cell["options"].get("batch"),
        devices=entry.cell["options"].get("devices"),
        step_time_s=figures.wall(entry) if entry.measured else None,
        p95_s=float(np.percentile(figures.times(entry), 95)) if entry.measured else None,
        samples_per_sec=rate and rate.value,
        tokens_per_sec=rate.value * tokens if rate and tokens else None,
        load_gb_per_sec=figures.gigabytes_per_second(entry) if entry.measured else None,
        host_peak_bytes=figures.host_peak(entry),
        device_peak_bytes=figures.device_peak(entry),
        mfu_of_measured=figures.utilization(entry),
        mfu_of_datasheet=figures.datasheet_utilization(entry),
        tflops=operations / 1e12 if operations else None,
        compile_s=figures.compile_seconds(entry),
        compile_cached_s=figures.cached_compile_seconds(entry),
        times_reference=_times_reference(entry),
        times_machine=_times_machine(entry, on_base, base),
        samples=len(entry.cell["samples"]),
        processes=len(entry.cell["processes"]),
        started=entry.run.started,
        commit=entry.run.result["run"]["commit"][:7],
        file=entry.run.file,
    )


def _state(entry: Entry) -> str:
    if not entry.measured:
        return STATES[entry.cell["outcome"]]
    return "invalid" if entry.faults else "dirty" if entry.run.dirty else "valid"


def _times_reference(entry: Entry) -> float | None:
    same = [
        other for other in entries([entry.run]) if other.id == entry.id and other.subject == REFERENCE and other.valid
    ]
    return compared(entry, same[0]).value if entry.valid and entry.subject != REFERENCE and same else None


def _times_machine(entry: Entry, on_base: Entry | None, base: str) -> float | str | None:
    if entry.machine == base or not entry.valid or on_base is None:
        return None
    if different := differs(entry, on_base):
        return f"n/c ({different})"
    return compared(entry, on_base).value


def _quoted(value: object) -> object:
    """Quote a text that a spreadsheet would evaluate as a formula."""
    if isinstance(value, float):
        return f"{value:.9g}"
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
