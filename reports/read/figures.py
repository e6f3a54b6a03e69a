"""Numbers of measured cells with their provenance: no number is on a page without its file."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.results.limits import least_seconds, load_work
from benchmarks.results.peaks import peak_of
from benchmarks.results.summaries import Ratio, by_process, ceiling, operations_per_second, ratio
from reports.read.merged import Entry

Json = Mapping[str, Any]

_GB = 1e9
# The layouts whose values are encoded, and bytes of a value by the names of dtypes.
_ENCODED = ("openpi", "gemma_flax")
_ITEM_BYTES = {"float32": 4, "bfloat16": 2}
_GIB = 2**30
# The memory budget of a load: this share of the bytes that stay on the host, plus this many bytes.
BUDGET_SHARE, BUDGET_MORE = 1.15, _GIB


@dataclass(frozen=True)
class Figure:
    """A number as shown on a page.

    Attributes:
      text: the formatted number with its unit.
      file: the result file it comes from.
      place: its location in the file: cell and subject, or row.
      how: how it is computed.
    """

    text: str
    file: str
    place: str
    how: str


def figure(entry: Entry, text: str, how: str) -> Figure:
    """Return a number of a cell with its provenance."""
    return Figure(text, entry.run.file, f"{entry.id}, {entry.subject}", how)


def times(entry: Entry) -> list[float]:
    """Return the seconds of each sample."""
    return [sample["wall_s"] for sample in entry.cell["samples"]]


def wall(entry: Entry) -> float:
    """Return the median seconds."""
    return median(times(entry))


def interval(entry: Entry) -> Ratio:
    """Return the median seconds with its 95 % interval, over processes and over samples within them."""
    return ratio([[1.0]], by_process(entry.cell))


def gigabytes_per_second(entry: Entry) -> float | None:
    """Return the load speed in 10^9 bytes on disk per second; None if nothing was read."""
    return entry.fixture["bytes"] / _GB / wall(entry) if entry.fixture and entry.cell["workload"] == "load" else None


def samples_per_second(entry: Entry) -> Ratio | None:
    """Return samples per second with a 95 % interval; None for cells without a batch."""
    batch = entry.cell["values"].get("batch")
    if not batch:
        return None
    seconds = interval(entry)
    return Ratio(batch / seconds.high, batch / seconds.value, batch / seconds.low)


def host_peak(entry: Entry) -> float | None:
    """Return the most bytes by which the process grew, over all samples."""
    return _most(entry, "host_peak_bytes")


def device_peak(entry: Entry) -> float | None:
    """Return the most bytes allocated on the device, over all samples."""
    return _most(entry, "device_peak_bytes")


def peak(entry: Entry) -> float | None:
    """Return the peak of the scarce memory: the host's for loads, else the device's if it has its own."""
    on_device = device_peak(entry)
    return host_peak(entry) if entry.cell["workload"] == "load" or on_device is None else on_device


def over_checkpoint(entry: Entry) -> float | None:
    """Return the host's peak over the bytes on disk."""
    most = host_peak(entry)
    return most / entry.fixture["bytes"] if most is not None and entry.fixture else None


def over_budget(entry: Entry) -> float | None:
    """Return the host's peak over the memory budget of a load."""
    most, stays = host_peak(entry), entry.cell["values"].get("resident_bytes")
    if most is None or stays is None or entry.cell["workload"] != "load":
        return None
    on_host = 0 if entry.run.result["environment"]["accelerators"] else stays
    return float(most / (BUDGET_SHARE * on_host + BUDGET_MORE))


def utilization(entry: Entry, counted: str = "flops_per_sample") -> float | None:
    """Return MFU: operations per second over those of a matrix product measured in the same run."""
    rate, limit = operations_per_second(entry.cell, counted), ceiling(entry.cell, entry.run.result)
    return rate / limit if rate and limit else None


def datasheet_utilization(entry: Entry) -> float | None:
    """Return MFU relative to the datasheet; None for an unknown device and for float32."""
    rate, accelerators = operations_per_second(entry.cell), entry.run.result["environment"]["accelerators"]
    if not rate or not accelerators or entry.cell["options"].get("dtype") != "bfloat16":
        return None
    known = peak_of(accelerators[0]["kind"], accelerators[0]["memory_bytes"])
    devices = int(entry.cell["options"].get("devices") or 1)
    return float(rate / (known.bf16_tflops * 1e12 * devices)) if known else None


def roofline(entry: Entry) -> float | None:
    """Return the least possible seconds of a load at the machine's measured speeds, or None.

    Reading, decoding (of orbax's layouts) and casting on all cores; in files without those speeds, reading or copying.
    """
    limits, fixture = entry.run.result["ceilings"], entry.fixture
    cold = entry.cell["options"].get("temperature") == "cold"
    read = limits["read_cold_gbs" if cold else "read_warm_gbs"]
    if not fixture or not read:
        return None
    stays = entry.cell["values"].get("resident_bytes") or 0
    if fixture["layout"] in _ENCODED and limits.get("decode_gbs"):
        values = fixture["params"] * _ITEM_BYTES[fixture["dtype"]]
        return least_seconds(load_work(fixture["bytes"], values, stays or values), limits, cold=cold)
    seconds = [fixture["bytes"] / read]
    seconds += [stays / limits[name] for name in ("memcpy_gbs", "host_to_device_gbs") if limits[name]]
    return float(max(seconds) / _GB)


def compile_seconds(entry: Entry) -> float | None:
    """Return the seconds of tracing, lowering and compiling, median over processes; None if nothing is compiled."""
    parts = ("trace_s", "lower_s", "compile_s")
    totals = [sum(process[name] for name in parts) for process in entry.cell["processes"] if _has(process, parts)]
    return median(totals) if totals else None


def cached_compile_seconds(entry: Entry) -> float | None:
    """Return the seconds of compiling with jax's persistent cache, median over the processes that measured it."""
    times_cached = [
        process["compile_cached_s"] for process in entry.cell["processes"] if _has(process, ("compile_cached_s",))
    ]
    return median(times_cached) if times_cached else None


def _has(process: Json, names: tuple[str, ...]) -> bool:
    return all(process.get(name) is not None for name in names)


def _most(entry: Entry, name: str) -> float | None:
    return max((sample[name] for sample in entry.cell["samples"] if sample[name] is not None), default=None)
