"""What tables tell of a measured cell, a column each; a number that is not known is an empty text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.results.rules import PROGRAMS
from benchmarks.results.summaries import ceiling, median, operations_per_second, percentile, spread

Json = Mapping[str, Any]
# TFLOP/s of one device by dtype, as its maker tells them; empty for a device that is not known.
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
    """A column.

    Attributes:
      title: one or two lines.
      value: of a measured cell, the text; empty if it is not known.
    """

    title: str
    value: Callable[[Json], str]


def columns(workload: str, result: Json, datasheet: Datasheet) -> list[Column]:
    """The columns of a workload's table."""
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
        *_utilisation(result, datasheet),
    ]


def before(workload: str, cells: Sequence[Json]) -> list[Column]:
    """The columns of the small table: where a load's time goes, or what comes before the first step."""
    if workload in PROGRAMS:
        return [Column(title, _of_processes(name)) for name, title in _COMPILING.items()]
    stages = list(dict.fromkeys(stage for cell in cells for sample in cell["samples"] for stage in sample["stages"]))
    return [*(Column(stage, _stage(stage)) for stage in stages), *([Column("rest", _rest)] if stages else [])]


def number(value: float | None) -> str:
    """Three digits that count, or a whole number with commas; empty for None."""
    if value is None:
        return ""
    # What rounds to a thousand would be written with an exponent.
    return f"{value:,.0f}" if abs(value) >= 999.5 or not value else f"{value:#.3g}".rstrip(".")


def values_of(cell: Json, name: str) -> list[float]:
    """A number of every sample; none if one sample lacks it."""
    found = [sample[name] for sample in cell["samples"]]
    return [] if None in found else found


def peak(cell: Json, name: str) -> float | None:
    """The most bytes of any sample: memory that is short once is short."""
    return max(values_of(cell, name), default=None)


def _middle(name: str) -> Callable[[Json], str]:
    return lambda cell: number(median(found)) if (found := values_of(cell, name)) else ""


def _count(cell: Json) -> str:
    return f"{len(cell['samples'])}/{len(cell['processes'])}"


def _range(cell: Json) -> str:
    low, high, _ = spread(values_of(cell, "wall_s"))
    return f"{number(low)}..{number(high)}" if len(cell["samples"]) > 1 else ""


def _late(cell: Json) -> str:
    return number(percentile(values_of(cell, "wall_s"), 95))


def _peak(name: str) -> Callable[[Json], str]:
    return lambda cell: number(found / 1e9) if (found := peak(cell, name)) is not None else ""


def _over_file(result: Json) -> Callable[[Json], str]:
    sizes = {fixture["id"]: fixture["bytes"] for fixture in result["fixtures"]}

    def over(cell: Json) -> str:
        found, size = peak(cell, "host_peak_bytes"), sizes.get(cell["fixture"])
        return f"{found / size:.2f}x" if found is not None and size else ""

    return over


def _per_second(count: Callable[[Json], float | None]) -> Callable[[Json], str]:
    """How many of something in each sample come in a second."""

    def rate(cell: Json) -> str:
        batch, of_one = cell["values"].get("batch"), count(cell)
        return number(batch * of_one / median(values_of(cell, "wall_s"))) if batch and of_one else ""

    return rate


def _utilisation(result: Json, datasheet: Datasheet) -> list[Column]:
    """Of the datasheet's operations and of the measured ones; a device that is not known has no datasheet."""
    where = "\nsheet/run" if datasheet else "\nof run"

    def shares(cell: Json, counted: str) -> str:
        rate = operations_per_second(cell, counted)
        told = datasheet.get(cell["options"].get("dtype"), 0.0) * 1e12 * (cell["options"].get("devices") or 1)
        limits = [*([told] if datasheet else []), ceiling(cell, result)]
        if rate is None or not any(limits):
            return ""
        return "/".join(f"{100 * rate / limit:.1f}" if limit else NOT_KNOWN for limit in limits)

    return [
        Column(f"MFU %{where}", lambda cell: shares(cell, "flops_per_sample")),
        Column(f"HFU %{where}", lambda cell: shares(cell, "hardware_flops_per_sample")),
    ]


def _of_processes(name: str) -> Callable[[Json], str]:
    def middle(cell: Json) -> str:
        found = [process[name] for process in cell["processes"] if process.get(name) is not None]
        return number(median(found)) if found else ""

    return middle


def _stage(stage: str) -> Callable[[Json], str]:
    def middle(cell: Json) -> str:
        found = [sample["stages"].get(stage) for sample in cell["samples"]]
        return number(median([seconds or 0.0 for seconds in found])) if set(found) != {None} else ""

    return middle


def _rest(cell: Json) -> str:
    if not any(sample["stages"] for sample in cell["samples"]):
        return ""
    return number(median([max(sample["wall_s"] - sum(sample["stages"].values()), 0) for sample in cell["samples"]]))
