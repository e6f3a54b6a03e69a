"""Loads and training steps of the reference next to others, from the result files of the benchmarks, as Markdown.

A cell is shown from the newest run on its machine that measured it; what is compared comes from one run. The files
keep the rules of ``python -m benchmarks check`` (a self-test sees to it), so what was measured counts.
"""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from reports.markdown import link, plain, table

Json = Mapping[str, Any]

REFERENCE = "reference"
_NOT_SHOWN = "tiny"
_OUTCOMES = {"out_of_memory": "out of memory", "failed": "failed"}
_HEAD = ("", "reference", "peak", "other", "peak", "time", "peak")


class Run(NamedTuple):
    """A result file."""

    file: str
    result: Json


class Compared(NamedTuple):
    """A cell of one run: of the reference, and of another subject or None."""

    run: Run
    ours: Json
    theirs: Json | None


def read_runs(folder: Path) -> list[Run]:
    """The result files below a folder, the oldest run first.

    Raises:
      ValueError: one is no JSON of a benchmark run.
    """
    runs = []
    for file in sorted(folder.rglob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        if result.get("schema") != "pi0-compat/benchmark":
            raise ValueError(
                f"{file}: expected a result of python -m benchmarks, found schema {result.get('schema')!r}"
            )
        runs.append(Run(file.relative_to(folder).as_posix(), result))
    return sorted(runs, key=lambda run: str(run.result["run"]["started"]))


def speed(runs: Sequence[Run], *, folder: str) -> str:
    """A table for each machine, and which files it is from.

    Args:
      runs: the oldest first.
      folder: of the result files, from the page.
    """
    newest = {
        (_machine(pair.run), pair.ours["id"], _name(pair.theirs)): pair for run in runs for pair in _compared(run)
    }
    shown = sorted(newest.values(), key=lambda pair: (_machine(pair.run), _place(pair.ours)))
    lines: list[str] = []
    for machine, pairs in groupby(shown, key=lambda pair: _machine(pair.run)):
        lines += _section(machine, list(pairs), folder)
    return "\n".join(lines).rstrip()


def _section(machine: str, pairs: Sequence[Compared], folder: str) -> list[str]:
    files = {pair.run.file: pair.run for pair in pairs}
    rows = [_row(pair) for pair in pairs]
    sources = [f"* {_source(run, folder)}" for run in files.values()]
    return [f"**{plain(machine)}**", "", *table(_HEAD, rows), "", *sources, ""]


def _source(run: Run, folder: str) -> str:
    told, where = run.result, run.result["environment"]
    subjects = ", ".join(
        f"{name} {each['version']} (jax {each['packages'].get('jax', '?')})" for name, each in told["subjects"].items()
    )
    cpu = f"{where['cpu']['model']}, {where['cpu']['cores']} cores, {where['ram_bytes'] / 2**30:.0f} GiB"
    file = link(run.file.rpartition("/")[2], f"{folder}/{run.file}")
    return f"{told['run']['started'][:10]}, {plain(cpu)}, {file}: {plain(subjects)}"


def _compared(run: Run) -> Iterator[Compared]:
    """Every measured cell of the reference with each other subject's, or alone."""
    cells = [cell for cell in run.result["cells"] if cell["size"] != _NOT_SHOWN]
    for ours in cells:
        if ours["subject"] != REFERENCE or ours["outcome"] != "measured":
            continue
        others = [cell for cell in cells if cell["id"] == ours["id"] and cell["subject"] != REFERENCE]
        told = [cell for cell in others if cell["outcome"] in ("measured", *_OUTCOMES)]
        yield from (Compared(run, ours, theirs) for theirs in told or [None])


def _row(pair: Compared) -> list[str]:
    ours, theirs = pair.ours, pair.theirs
    cells = [f"`{ours['id']}`", _time(ours), _gigabytes(_peak(ours))]
    if theirs is None:
        return [*cells, "", "", "", ""]
    if theirs["outcome"] != "measured":
        return [*cells, f"{theirs['subject']}: {_OUTCOMES[theirs['outcome']]}", "", "", ""]
    cells += [f"{theirs['subject']}: {_time(theirs)}", _gigabytes(_peak(theirs))]
    return [*cells, _ratio(_wall(ours), _wall(theirs)), _ratio(_peak(ours), _peak(theirs))]


def _time(cell: Json) -> str:
    wall = _wall(cell)
    if cell["workload"] == "step":
        return f"{cell['options']['batch'] / wall:.3g} samples/s"
    return f"{wall:.3g} s" if wall >= 0.1 else f"{1000 * wall:.3g} ms"


def _ratio(ours: float | None, theirs: float | None) -> str:
    return f"{ours / theirs:.2f}x" if ours is not None and theirs else ""


def _wall(cell: Json) -> float:
    return float(statistics.median(sample["wall_s"] for sample in cell["samples"]))


def _peak(cell: Json) -> float | None:
    """The most memory: of the device if it has its own, else by how much the process grew."""
    on_device, on_host = (_most(cell, kind) for kind in ("device_peak_bytes", "host_peak_bytes"))
    return on_host if cell["workload"] == "load" or on_device is None else on_device


def _most(cell: Json, kind: str) -> float | None:
    return max((sample[kind] for sample in cell["samples"] if sample[kind] is not None), default=None)


def _gigabytes(size: float | None) -> str:
    return "" if size is None else f"{size / 1e9:.3g} GB"


def _machine(run: Run) -> str:
    return str(run.result["environment"]["slug"])


def _name(cell: Json | None) -> str:
    return "" if cell is None else str(cell["subject"])


def _place(cell: Json) -> tuple[int, int, str]:
    order: Iterable[str] = ("load", "step", "sampling", "lora")
    return ("small", "full").index(cell["size"]), list(order).index(cell["workload"]), str(cell["id"])
