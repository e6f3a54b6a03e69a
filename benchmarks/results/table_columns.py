"""The columns of the tables of measured cells; an unknown number is shown as an empty cell."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.results.rules import PROGRAMS
from benchmarks.results.summaries import ceiling, median, operations_per_second, percentile, spread

Json = Mapping[str, Any]
# Datasheet TFLOP/s of one device by dtype; empty for an unknown device.
Datasheet = Mapping[str, float]

NOT_KNOWN = "\N{EN DASH}"
_COMPILING = {
    "trace_s": "trace",
    "lower_s": "lower",
    "compile_s": "compile",
    "compile_cached_s": "from cache",
    "first_s": "first call",
}


class Column(NamedTuple):
    """A table column.

    Attributes:
      title: the heading, one or two lines.
      value: formats a measured cell's value; returns an empty text if it is unknown.
    """

    title: str
    value: Callable[[Json], str]


def columns(workload: str, result: Json, datasheet: Datasheet) -> list[Column]:
    """Return the columns of a workload's table."""
    count = Column("n", _count)
    memory = [Column("host\nGB", _peak("host_peak_bytes")), Column("device\nGB", _peak("device_peak_bytes"))]
    if workload not in PROGRAMS:
        over = [Column("host /\nfile", _over_file(result))] if workload == "load" else []
        times = [Column("wall\ns", _middle("wall_s")), Column("range", _range), Column("CPU\ns", _middle("cpu_s"))]
        return [count, *times, memory[0], *over, memory[1]]
    return [
        count,
        Column("p50\ns", _middle("wall_s")),
        Column("p95\ns", _late),
        Column("samples\n/s", _per_second(lambda cell: 1)),
        Column("tokens\n/s", _per_second(lambda cell: cell["values"].get("tokens_per_sample"))),
        *memory,
        *_utilization(result, datasheet),
    ]


def before(workload: str, cells: Sequence[Json]) -> list[Column]:
    """Return the columns of the second table: a load's time by stage, or the time before a program's first step."""
    if workload in PROGRAMS:
        return [Column(title, _of_processes(name)) for name, title in _COMPILING.items()]
    stages = list(dict.fromkeys(stage for cell in cells for sample in cell["samples"] for stage in sample["stages"]))
    return [*(Column(stage, _stage(stage)) for stage in stages), *([Column("rest", _rest)] if stages else [])]


def number(value: float | None) -> str:
    """Format a number with three significant digits, or as a whole number with commas; None is empty."""
    if value is None:
        return ""
    # `g` would write numbers that round to 1000 with an exponent.
    return f"{value:,.0f}" if abs(value) >= 999.5 or not value else f"{value:#.3g}".rstrip(".")


def values_of(cell: Json, name: str) -> list[float]:
    """Return a value of every sample; empty if any sample lacks it."""
    values = [sample[name] for sample in cell["samples"]]
    return [] if None in values else values


def peak(cell: Json, name: str) -> float | None:
    """Return the maximum over samples: memory that runs out once is enough to fail."""
    return max(values_of(cell, name), default=None)


def _middle(name: str) -> Callable[[Json], str]:
    return lambda cell: number(median(values)) if (values := values_of(cell, name)) else ""


def _count(cell: Json) -> str:
    return f"{len(cell['samples'])}/{len(cell['processes'])}"


def _range(cell: Json) -> str:
    low, high, _ = spread(values_of(cell, "wall_s"))
    return f"{number(low)}..{number(high)}" if len(cell["samples"]) > 1 else ""


def _late(cell: Json) -> str:
    return number(percentile(values_of(cell, "wall_s"), 95))


def _peak(name: str) -> Callable[[Json], str]:
    return lambda cell: number(most / 1e9) if (most := peak(cell, name)) is not None else ""


def _over_file(result: Json) -> Callable[[Json], str]:
    sizes = {fixture["id"]: fixture["bytes"] for fixture in result["fixtures"]}

    def over(cell: Json) -> str:
        most, size = peak(cell, "host_peak_bytes"), sizes.get(cell["fixture"])
        return f"{most / size:.2f}x" if most is not None and size else ""

    return over


def _per_second(count: Callable[[Json], float | None]) -> Callable[[Json], str]:
    """Return a formatter of a rate: ``count`` of the cell times its batch per second."""

    def rate(cell: Json) -> str:
        batch, of_one = cell["values"].get("batch"), count(cell)
        return number(batch * of_one / median(values_of(cell, "wall_s"))) if batch and of_one else ""

    return rate


def _utilization(result: Json, datasheet: Datasheet) -> list[Column]:
    """Return the MFU and HFU columns, relative to the datasheet (if known) and to the measured ceiling."""
    where = "\nsheet/run" if datasheet else "\nof run"

    def shares(cell: Json, counted: str) -> str:
        rate = operations_per_second(cell, counted)
        sheet = datasheet.get(cell["options"].get("dtype"), 0.0) * 1e12 * (cell["options"].get("devices") or 1)
        limits = [*([sheet] if datasheet else []), ceiling(cell, result)]
        if rate is None or not any(limits):
            return ""
        return "/".join(f"{100 * rate / limit:.1f}" if limit else NOT_KNOWN for limit in limits)

    return [
        Column(f"MFU %{where}", lambda cell: shares(cell, "flops_per_sample")),
        Column(f"HFU %{where}", lambda cell: shares(cell, "hardware_flops_per_sample")),
    ]


def _of_processes(name: str) -> Callable[[Json], str]:
    def middle(cell: Json) -> str:
        values = [process[name] for process in cell["processes"] if process.get(name) is not None]
        return number(median(values)) if values else ""

    return middle


def _stage(stage: str) -> Callable[[Json], str]:
    def middle(cell: Json) -> str:
        seconds = [sample["stages"].get(stage) for sample in cell["samples"]]
        return number(median([value or 0.0 for value in seconds])) if set(seconds) != {None} else ""

    return middle


def _rest(cell: Json) -> str:
    if not any(sample["stages"] for sample in cell["samples"]):
        return ""
    return number(median([max(sample["wall_s"] - sum(sample["stages"].values()), 0) for sample in cell["samples"]]))
