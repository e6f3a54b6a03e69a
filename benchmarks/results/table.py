"""Print a result file as tables for a terminal of 100 columns; invalid cells are shown without numbers."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from benchmarks.results import summaries
from benchmarks.results.rules import PROGRAMS, REFERENCE
from benchmarks.results.scaling import scaling
from benchmarks.results.table_columns import NOT_KNOWN, Column, Datasheet, before, columns, number, peak, values_of
from benchmarks.results.validity import Problem, problems, valid_cells

Json = Mapping[str, Any]

_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_OUTCOMES = {"measured": "invalid", "out_of_memory": "out of memory", "failed": "failed", "absent": NOT_KNOWN}
_OF_LOADS = (
    "Wall time: median and 5th to 95th percentile (minimum to maximum for fewer than 20 samples). "
    "Host: peak growth of the process, and its ratio to the checkpoint's bytes."
)
_OF_SCALING = "Efficiency: samples/s over the number of devices times the samples/s of one device with the same batch."
_SHARED = "The devices are emulated on one CPU and share its cores: this shows overhead, not speed."
_OF_STEPS = "MFU counts the model's operations, HFU also recomputation, in percent of"


def print_tables(result: Json, console: Console, datasheet: Datasheet | None = None) -> None:
    """Print all tables of a result that matches the schema.

    Args:
      result: the content of a result file.
      console: where to print.
      datasheet: dtype -> datasheet TFLOP/s of one of the run's accelerators; None for an unknown device.
    """
    page = _Page(result, console, datasheet or {})
    page.head()
    for _, cells in groupby(sorted(result["cells"], key=_section), key=_section):
        page.section(list(cells))
    page.notes()


class _Page:
    """State shared by the parts of a page: the result, its problems, and the console."""

    def __init__(self, result: Json, console: Console, datasheet: Datasheet) -> None:
        self._result, self._console, self._datasheet = result, console, datasheet
        self._problems = problems(result)
        self._valid = {_key(cell) for cell in valid_cells(result)}
        self._footnotes: dict[str, int] = {}

    def head(self) -> None:
        """Print machine, commit, date, subjects, and measured ceilings."""
        run = self._result["run"]
        when = f"{run['started'][:10]} {run['started'][11:16]} UTC"
        commit = f"commit {str(run['commit'])[:7]}{' (dirty)' if run['dirty'] else ''}"
        self._print(f"pi0-compat benchmarks · {self._result['environment']['slug']} · {commit} · {when}", "bold")
        for name, subject in self._result["subjects"].items():
            jax = f"jax {subject['packages']['jax']}, " if "jax" in subject["packages"] else ""
            self._print(f"{name} {subject['version']}: {jax}Python {subject['python']}, {subject['device']}")
        self._print(f"This machine, measured: {_ceilings(self._result['ceilings'])}", "dim")

    def section(self, cells: Sequence[Json]) -> None:
        """Print the tables of a workload at a size."""
        workload, size = cells[0]["workload"], cells[0]["size"]
        smoke = " (a smoke test)" if size == "tiny" else ""
        title, self._footnotes = f"{workload}, {size}{smoke}", {}
        measured = [cell for cell in cells if _key(cell) in self._valid]
        self._titled(title, self._table(cells, columns(workload, self._result, self._datasheet)))
        for text, mark in self._footnotes.items():
            self._print(f"{_superscript(mark)} {text}", indent=1)
        shown = before(workload, measured)
        if any(column.value(cell) for column in shown for cell in measured):
            what = "before the first call" if workload in PROGRAMS else "where the time goes"
            self._titled(f"{title}: {what}, s", self._table(measured, shown))
        self._scaling(f"{title}: over several devices", measured)
        for other in dict.fromkeys(cell["subject"] for cell in measured if cell["subject"] != REFERENCE):
            self._ratios(f"{title}: {other} next to the reference", other, measured)

    def notes(self) -> None:
        """Print how to read the tables, then each distinct note and problem once."""
        self._console.print()
        self._print("n: samples/processes.", "dim")
        workloads = {cell["workload"] for cell in self._result["cells"]}
        if workloads - set(PROGRAMS):
            self._print(_OF_LOADS, "dim")
        if workloads & set(PROGRAMS):
            sheet = "the datasheet / " if self._datasheet else ""
            unknown = "" if self._datasheet else "; no datasheet is known for this device"
            self._print(f"{_OF_STEPS} {sheet}the product measured in this run{unknown}.", "dim")
        for problem, count in _counted(
            [problem for problem in self._problems if not (problem.cell and problem.invalid)]
        ):
            many = f" ({count} cell{'s' if count > 1 else ''})" if problem.cell else ""
            kind = "Invalid" if problem.invalid else "Note"
            self._print(f"{kind}: {problem.text}{many}", "red" if problem.invalid else "yellow")

    def _titled(self, title: str, table: Table) -> None:
        # Not the table's own title, which wraps in a narrow table.
        self._console.print()
        self._print(title, "bold cyan")
        self._console.print(table)

    def _table(self, cells: Sequence[Json], shown: Sequence[Column]) -> Table:
        """Return a table of cells, with a row per subject if there are several; empty columns are dropped."""
        filled = [column for column in shown if any(column.value(cell) for cell in cells if _key(cell) in self._valid)]
        return _grid([column.title for column in filled], list(self._rows(cells, filled)))

    def _rows(self, cells: Sequence[Json], shown: Sequence[Column]) -> Iterator[list[Text]]:
        several = len(self._result["subjects"]) > 1
        for name, same in _by_id(cells).items():
            label = _label(name, cells)
            if several:
                yield [Text(label, "bold")]
            for cell in same:
                yield self._row(f"  {cell['subject']}" if several else label, cell, shown)

    def _row(self, label: str, cell: Json, shown: Sequence[Column]) -> list[Text]:
        if _key(cell) in self._valid:
            return [Text(label), *(Text(column.value(cell) or NOT_KNOWN) for column in shown)]
        mark = self._footnotes.setdefault(self._reason(cell), len(self._footnotes) + 1)
        style = "red" if cell["outcome"] == "measured" else "yellow"
        return [Text.assemble(f"{label}  ", (f"{_OUTCOMES[cell['outcome']]}{_superscript(mark)}", style))]

    def _reason(self, cell: Json) -> str:
        """Return why a cell has no numbers."""
        if cell["outcome"] != "measured":
            return f"{_OUTCOMES[cell['outcome']].replace(NOT_KNOWN, 'absent')}: {cell['reason']}"
        wrong = [problem for problem in self._problems if problem.invalid]
        own = [problem.text for problem in wrong if (problem.cell, problem.subject) == _key(cell)]
        return f"invalid: {(own or [problem.text for problem in wrong if not problem.cell])[0]}"

    def _scaling(self, title: str, measured: Sequence[Json]) -> None:
        """Print steps on several devices next to the same steps on one device, if any were measured."""
        rows = [
            [
                Text(name),
                *map(Text, (row.step, str(row.devices), row.placement, number(row.rate), _percent(row.efficiency))),
            ]
            for name, cells in _by_subject(measured).items()
            for row in scaling(cells)
        ]
        if rows:
            self._titled(title, _grid(["step", "devices", "state", "samples/s", "efficiency"], rows, "subject"))
            self._print(_OF_SCALING, "dim")
            if not self._result["environment"]["accelerators"]:
                self._print(_SHARED, "yellow")

    def _ratios(self, title: str, other: str, measured: Sequence[Json]) -> None:
        by_key = {_key(cell): cell for cell in measured}
        pairs = [
            (by_key[name, REFERENCE], by_key[name, other])
            for name in _by_id(measured)
            if {(name, REFERENCE), (name, other)} <= by_key.keys()
        ]
        rows = [[Text(_label(ours["id"], measured)), *map(Text, _ratio(ours, theirs))] for ours, theirs in pairs]
        if rows:
            heads = ["wall time", "95 % interval", "CPU time", "host peak", "device peak"]
            used = [place for place in range(6) if any(row[place].plain for row in rows)]
            kept = [[row[place] for place in used] for row in rows]
            self._titled(title, _grid([heads[place - 1] for place in used if place], kept))

    def _print(self, text: str, style: str = "", indent: int = 0) -> None:
        self._console.print(Padding(Text(text, style), (0, 0, 0, indent), expand=False))


def verdict(ratio: summaries.Ratio) -> str:
    """Describe a ratio of times: slower, faster, or as long if the interval includes 1."""
    if ratio.low <= 1 <= ratio.high:
        return f"{ratio.value:.2f}x as long"
    return f"{ratio.value:.2f}x slower" if ratio.value > 1 else f"{1 / ratio.value:.2f}x faster"


def _ratio(ours: Json, theirs: Json) -> list[str]:
    """Return verdict and interval of the wall time, then the ratios of CPU time and of peaks; all are theirs / ours."""
    wall = summaries.ratio(summaries.by_process(ours), summaries.by_process(theirs))
    cpu = [summaries.median(values) if (values := values_of(cell, "cpu_s")) else None for cell in (theirs, ours)]
    peaks = [[peak(cell, f"{where}_peak_bytes") for cell in (theirs, ours)] for where in ("host", "device")]
    over = [f"{above / below:.2f}x" if above and below else "" for above, below in (cpu, *peaks)]
    return [verdict(wall), f"{wall.low:.2f}..{wall.high:.2f}", *over]


def _grid(heads: Sequence[str], rows: Sequence[Sequence[Text]], first: str = "cell") -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column(first, vertical="bottom", overflow="fold")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _section(cell: Json) -> tuple[int, int]:
    sizes, workloads = ("tiny", "small", "full"), ("load", "lora", "step", "sampling")
    return sizes.index(cell["size"]), workloads.index(cell["workload"])


def _key(cell: Json) -> tuple[str, str]:
    return cell["id"], cell["subject"]


def _by_id(cells: Sequence[Json]) -> dict[str, list[Json]]:
    """Group cells by id, in the order of the file; the reference comes first."""
    groups: dict[str, list[Json]] = {}
    for cell in cells:
        groups.setdefault(cell["id"], []).append(cell)
    return {name: sorted(same, key=lambda cell: cell["subject"] != REFERENCE) for name, same in groups.items()}


def _by_subject(cells: Sequence[Json]) -> dict[str, list[Json]]:
    """Group cells by subject; the reference comes first."""
    names = dict.fromkeys(cell["subject"] for cell in sorted(cells, key=lambda cell: cell["subject"] != REFERENCE))
    return {name: [cell for cell in cells if cell["subject"] == name] for name in names}


def _label(name: str, cells: Sequence[Json]) -> str:
    """Return a cell's id without the parts in the table's title, nor the operation if the workload has only one."""
    workload, operation, *rest = name.split("/")
    shown = [part.removeprefix("devices-") for part in rest if part != cells[0]["size"]]
    is_plain = workload in PROGRAMS and len({cell["operation"] for cell in cells}) == 1
    return "/".join(shown if shown and is_plain else [operation, *shown])


def _percent(share: float | None) -> str:
    return NOT_KNOWN if share is None else f"{100 * share:.0f} %"


def _counted(problems: Sequence[Problem]) -> Iterator[tuple[Problem, int]]:
    """Yield the first problem of each distinct text, and how many problems have that text."""
    texts = [problem.text for problem in problems]
    return ((problems[texts.index(text)], texts.count(text)) for text in dict.fromkeys(texts))


def _ceilings(ceilings: Json) -> str:
    product = (ceilings["matmul_tflops"] or {}).items()
    speeds = " / ".join(f"{number(speed)} {dtype}" for dtype, speed in product if speed)
    texts = [f"product {speeds} TFLOP/s"] if speeds else []
    names = {key: key.removesuffix("_gbs").replace("_", " ") for key in ceilings if key != "matmul_tflops"}
    texts += [f"{name} {number(ceilings[key])} GB/s" for key, name in names.items() if ceilings[key]]
    return ", ".join(texts) or "nothing"


def _superscript(mark: int) -> str:
    return str(mark).translate(_SUPERSCRIPT)
