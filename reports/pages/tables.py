"""Tables shared by the pages, as a head and rows of plain text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from reports.read import units
from reports.read.benchmark_runs import BenchmarkRun
from reports.read.lines import Line
from reports.read.subject_columns import Column


class Table(NamedTuple):
    """A table of plain text.

    Attributes:
      head: one title per column.
      rows: the cells of each row.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


NOTHING = "\N{EN DASH}"
HEAD = (
    *(
        "machine",
        "cell",
        "subject",
        "median",
        "p95",
        "samples/s",
        "tokens/s",
        "GB/s",
        "host peak",
        "device peak",
        "MFU",
    ),
    *("compile", "cached", "x reference", "x machine", "n", "run"),
)


def cells(line: Line) -> list[str]:
    """Return a line's cells, except the last (the run)."""
    shares = [line.mfu_of_measured, line.mfu_of_datasheet]
    mfu = " | ".join(units.percent(share) for share in shares if share is not None)
    if line.state not in ("valid", "dirty"):
        state = f"{line.state}: {line.reason}" if line.state == "invalid" else line.state
        return [line.machine, line.cell, f"{line.subject} {line.version}", state, *[NOTHING] * (len(HEAD) - 5)]
    machine = (
        line.times_machine if isinstance(line.times_machine, str) else _or_nothing(line.times_machine, units.factor)
    )
    return [
        line.machine,
        line.cell,
        f"{line.subject} {line.version}",
        _or_nothing(line.step_time_s, units.seconds),
        _or_nothing(line.p95_s, units.seconds),
        _or_nothing(line.samples_per_sec, units.digits),
        _or_nothing(line.tokens_per_sec, units.digits),
        _or_nothing(line.load_gb_per_sec, units.digits),
        _or_nothing(line.host_peak_bytes, units.gigabytes),
        _or_nothing(line.device_peak_bytes, units.gigabytes),
        mfu or NOTHING,
        _or_nothing(line.compile_s, units.seconds),
        _or_nothing(line.compile_cached_s, units.seconds),
        _or_nothing(line.times_reference, units.factor),
        machine,
        f"{line.samples}/{line.processes}",
    ]


def environments(runs: Sequence[BenchmarkRun]) -> Table:
    """Return the environment of each run, the newest first."""
    head = ("run", "machine", "processor", "memory", "system", "accelerators", "subjects", "load, steal", "commit")
    rows = []
    for run in reversed(runs):
        where, info = run.result["environment"], run.result["run"]
        devices = ", ".join(f"{each['count']} x {each['kind']}" for each in where["accelerators"])
        noise = where["noise"]
        rows.append(
            (
                info["started"],
                run.machine,
                f"{where['cpu']['model']}, {where['cpu']['cores']} cores",
                _or_nothing(where["ram_bytes"], units.gigabytes),
                ", ".join(str(where[name]) for name in ("os", "kernel", "virtualisation") if where[name]),
                devices or NOTHING,
                "; ".join(_subject(name, each) for name, each in run.result["subjects"].items()),
                ", ".join(
                    [_or_nothing(noise["load_before"], units.digits), _or_nothing(noise["steal_share"], units.percent)]
                ),
                f"{info['commit'][:7]}{', dirty' if run.dirty else ''}",
            )
        )
    return Table(head, rows)


def fixtures(runs: Sequence[BenchmarkRun]) -> Table:
    """Return each fixture that was read, once."""
    by_id = {each["id"]: each for run in runs for each in run.result["fixtures"]}
    head = ("fixture", "layout", "dtype", "on disk", "parameters", "arrays", "sha256")
    rows = [
        (
            *(name, each["layout"], each["dtype"], units.gigabytes(each["bytes"]), f"{each['params']:,}"),
            *(str(each["leaves"]), each["sha256"][:12]),
        )
        for name, each in sorted(by_id.items())
    ]
    return Table(head, rows)


def runs(columns: Sequence[Column]) -> Table:
    """Return the contract run of each subject."""
    head = ("subject", "date", "Python", "system", "packages", "commit", "file")
    rows = []
    for column in columns:
        header, git = column.run.header, column.run.header["git"]
        packages = ", ".join(f"{name} {version}" for name, version in column.subject.get("packages", {}).items())
        commit = f"{(git['commit'] or 'none')[:7]}{', dirty' if git['dirty'] else ''}"
        where = (header["started"], header["python"], header["platform"])
        rows.append((column.title, *where, column.unavailable or packages, commit, f"compat/{column.run.file.name}"))
    return Table(head, rows)


def _subject(name: str, description: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{package} {version}" for package, version in description["packages"].items())
    return f"{name} {description['version']} on {description['device']} (Python {description['python']}, {listed})"


def _or_nothing(value: float | None, shown: Callable[[float], str]) -> str:
    return NOTHING if value is None else shown(value)
