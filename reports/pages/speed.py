"""Loads and training steps of the reference compared with others, from the benchmarks' result files, as Markdown.

A cell is shown from the newest run on its machine that measured another subject too, so that comparisons stay within
one run. Cells that break the rules of ``python -m benchmarks check`` are not shown.
"""

from collections.abc import Sequence
from itertools import groupby

from benchmarks.results.summaries import shows_a_difference
from reports.pages.markdown import link, plain, table
from reports.read import figures, units
from reports.read.benchmark_runs import BenchmarkRun
from reports.read.headlines import NO_DIFFERENCE
from reports.read.lines import STATES
from reports.read.merged import Entry, beside, compared, entries, side_by_side

NOT_SHOWN = "tiny"
_HEAD = ("", "reference", "of the limit", "peak", "other", "peak", "time", "peak")


def speed(runs: Sequence[BenchmarkRun], *, folder: str) -> str:
    """Return a table for each machine, with its source files.

    Args:
      runs: the runs, the oldest first.
      folder: the path from the page to the folder of the result files.
    """
    shown = [entry for entry in side_by_side(runs) if entry.cell["size"] != NOT_SHOWN]
    lines: list[str] = []
    for machine, group in groupby(shown, key=lambda entry: entry.machine):
        lines += _section(machine, list(group), folder)
    return "\n".join(lines).rstrip()


def time_of(entry: Entry) -> str:
    """Format samples per second for a training step, else seconds."""
    rate = figures.samples_per_second(entry) if entry.cell["workload"] == "step" else None
    return f"{units.digits(rate.value)} samples/s" if rate else units.seconds(figures.wall(entry))


def source(run: BenchmarkRun, folder: str) -> str:
    """Describe a run in one line: date, machine, file and subjects."""
    result, where = run.result, run.result["environment"]
    subjects = ", ".join(
        f"{name} {each['version']} (jax {each['packages'].get('jax', '?')})"
        for name, each in result["subjects"].items()
    )
    cpu = f"{where['cpu']['model']}, {where['cpu']['cores']} cores, {where['ram_bytes'] / 2**30:.0f} GiB"
    file = link(run.file.rpartition("/")[2], f"{folder}/{run.file}")
    return f"{run.started[:10]}, {plain(cpu)}, {file}: {plain(subjects)}"


def _section(machine: str, group: Sequence[Entry], folder: str) -> list[str]:
    runs = {entry.run.file: entry.run for entry in group}
    sources = [f"* {source(runs[file], folder)}" for file in sorted(runs)]
    rows = [row for entry in group for row in _rows(entry)]
    return [f"**{plain(machine)}**", "", *table(_HEAD, rows), "", *sources, ""]


def _rows(entry: Entry) -> list[list[str]]:
    """Return the reference beside each other subject, or alone."""
    ours = [f"`{entry.id}`", time_of(entry), _of_the_limit(entry), _peak(entry)]
    others = [
        [f"{plain(other.subject)}: {time_of(other)}", _peak(other), *_ratios(entry, other)] for other in beside(entry)
    ]
    others += [[f"{plain(other.subject)}: {STATES[other.cell['outcome']]}", "", "", ""] for other in _failed(entry)]
    return [[*ours, *other] for other in others or [["", "", "", ""]]]


def _of_the_limit(entry: Entry) -> str:
    """Return the time of a load as a multiple of the least that the machine could take, where that was measured."""
    is_known = entry.cell["workload"] == "load" and entry.run.result["ceilings"].get("decode_gbs")
    least = figures.roofline(entry) if is_known else None
    return f"{figures.wall(entry) / least:.2f}x" if least else ""


def _failed(entry: Entry) -> list[Entry]:
    """Return the same cell of subjects that failed it, in the same run."""
    same = [other for other in entries([entry.run]) if other.id == entry.id]
    return [other for other in same if other.cell["outcome"] in ("out_of_memory", "failed")]


def _ratios(ours: Entry, theirs: Entry) -> list[str]:
    time = f"{figures.wall(ours) / figures.wall(theirs):.2f}x"
    one, other = figures.peak(ours), figures.peak(theirs)
    shown = shows_a_difference(compared(ours, theirs))
    return [time if shown else f"{NO_DIFFERENCE} ({time})", f"{one / other:.2f}x" if one is not None and other else ""]


def _peak(entry: Entry) -> str:
    most = figures.peak(entry)
    return "" if most is None else units.gigabytes(most)
