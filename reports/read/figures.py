"""Numbers of measured cells, each with where it comes from: no number is on a page without its file."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.results.peaks import peak_of
from benchmarks.results.summaries import Ratio, by_process, ceiling, operations_per_second, ratio
from reports.read.merged import Entry

Json = Mapping[str, Any]

_GB = 1e9
_GIB = 2**30
# A base checkpoint becomes a LoRA train state within this: of the bytes that stay on the host, and besides.
BUDGET_SHARE, BUDGET_MORE = 1.15, _GIB


@dataclass(frozen=True)
class Figure:
    """A number as a page shows it.

    Attributes:
      text: with its unit.
      file: the result file that it is from.
      place: where in it: the cell and the subject, or the row.
      how: how it is computed from that.
    """

    text: str
    file: str
    place: str
    how: str


def figure(entry: Entry, text: str, how: str) -> Figure:
    """A number of a cell."""
    return Figure(text, entry.run.file, f"{entry.id}, {entry.subject}", how)


def times(entry: Entry) -> list[float]:
    """Seconds of each sample."""
    return [sample["wall_s"] for sample in entry.cell["samples"]]


def wall(entry: Entry) -> float:
    """Seconds, the median."""
    return median(times(entry))


def interval(entry: Entry) -> Ratio:
    """Seconds: the median and its interval of 95 %, over processes and over samples within them."""
    return ratio([[1.0]], by_process(entry.cell))


def gigabytes_per_second(entry: Entry) -> float | None:
    """How fast a checkpoint was loaded, 10^9 bytes on disk a second; None if nothing was read."""
    return entry.fixture["bytes"] / _GB / wall(entry) if entry.fixture and entry.cell["workload"] == "load" else None


def samples_per_second(entry: Entry) -> Ratio | None:
    """Examples a second with an interval of 95 %; None of what has no batch."""
    batch = entry.cell["values"].get("batch")
    if not batch:
        return None
    found = interval(entry)
    return Ratio(batch / found.high, batch / found.value, batch / found.low)


def host_peak(entry: Entry) -> float | None:
    """The most bytes by which the process grew, of any sample."""
    return _most(entry, "host_peak_bytes")


def device_peak(entry: Entry) -> float | None:
    """The most bytes of the device's allocator, of any sample."""
    return _most(entry, "device_peak_bytes")


def peak(entry: Entry) -> float | None:
    """What is short on this machine: of a load the host's memory, else the device's, if it has its own."""
    on_device = device_peak(entry)
    return host_peak(entry) if entry.cell["workload"] == "load" or on_device is None else on_device


def over_checkpoint(entry: Entry) -> float | None:
    """The host's peak over the bytes on disk."""
    found = host_peak(entry)
    return found / entry.fixture["bytes"] if found is not None and entry.fixture else None


def over_budget(entry: Entry) -> float | None:
    """The host's peak over what a load may take; above 1 it takes more."""
    found, stays = host_peak(entry), entry.cell["values"].get("resident_bytes")
    if found is None or stays is None or entry.cell["workload"] != "load":
        return None
    on_host = 0 if entry.run.result["environment"]["accelerators"] else stays
    return float(found / (BUDGET_SHARE * on_host + BUDGET_MORE))


def utilisation(entry: Entry, counted: str = "flops_per_sample") -> float | None:
    """MFU: operations a second over those of a matrix product that was measured in the same run."""
    rate, limit = operations_per_second(entry.cell, counted), ceiling(entry.cell, entry.run.result)
    return rate / limit if rate and limit else None


def datasheet_utilisation(entry: Entry) -> float | None:
    """MFU against the maker's data sheet; None of a device that is not known, and of float32."""
    rate, accelerators = operations_per_second(entry.cell), entry.run.result["environment"]["accelerators"]
    if not rate or not accelerators or entry.cell["options"].get("dtype") != "bfloat16":
        return None
    known = peak_of(accelerators[0]["kind"], accelerators[0]["memory_bytes"])
    devices = int(entry.cell["options"].get("devices") or 1)
    return float(rate / (known.bf16_tflops * 1e12 * devices)) if known else None


def roofline(entry: Entry) -> float | None:
    """The least seconds of a load here: its bytes at the measured speeds of reading and of copying, or None."""
    limits, fixture = entry.run.result["ceilings"], entry.fixture
    read = limits["read_cold_gbs" if entry.cell["options"].get("temperature") == "cold" else "read_warm_gbs"]
    if not fixture or not read:
        return None
    stays = entry.cell["values"].get("resident_bytes") or 0
    seconds = [fixture["bytes"] / read]
    seconds += [stays / limits[name] for name in ("memcpy_gbs", "host_to_device_gbs") if limits[name]]
    return float(max(seconds) / _GB)


def compile_seconds(entry: Entry) -> float | None:
    """Tracing, lowering and compiling, the median over processes; None of what compiles nothing."""
    parts = ("trace_s", "lower_s", "compile_s")
    found = [sum(process[name] for name in parts) for process in entry.cell["processes"] if _has(process, parts)]
    return median(found) if found else None


def cached_compile_seconds(entry: Entry) -> float | None:
    """Compiling what jax's persistent cache holds, the median over the processes that tried."""
    found = [process["compile_cached_s"] for process in entry.cell["processes"] if _has(process, ("compile_cached_s",))]
    return median(found) if found else None


def _has(process: Json, names: tuple[str, ...]) -> bool:
    return all(process.get(name) is not None for name in names)


def _most(entry: Entry, name: str) -> float | None:
    return max((sample[name] for sample in entry.cell["samples"] if sample[name] is not None), default=None)
