"""Up to three headline numbers per machine, each compared with other subjects in the same run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.results.summaries import shows_a_difference
from reports.read import figures, units
from reports.read.benchmark_runs import BenchmarkRun
from reports.read.figures import Figure, figure
from reports.read.merged import Entry, beside, compared, side_by_side

_SIZES = ("small", "full")
# What is said of a ratio whose interval is wide and includes 1.
NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class Headline:
    """A headline number.

    Attributes:
      label: what the number measures.
      value: the number.
      beside: (description, ratio to another subject) pairs; empty if no other subject was measured.
    """

    label: str
    value: Figure
    beside: tuple[tuple[str, Figure], ...]


@dataclass(frozen=True)
class Machine:
    """A kind of machine.

    Attributes:
      name: the slug of the machine.
      run: the newest run on it.
      headlines: at most three.
    """

    name: str
    run: BenchmarkRun
    headlines: tuple[Headline, ...]

    @property
    def described(self) -> str:
        """Processor, cores, memory, accelerators."""
        where = self.run.result["environment"]
        parts = [where["cpu"]["model"], where["cpu"]["cores"] and f"{where['cpu']['cores']} cores"]
        parts.append(where["ram_bytes"] and f"{where['ram_bytes'] / 2**30:.0f} GiB")
        devices = [f"{each['count']} x {each['kind']}" for each in where["accelerators"]]
        return ", ".join(str(part) for part in (*parts, *(devices or ["no accelerator"])) if part)


def machines(runs: Sequence[BenchmarkRun]) -> list[Machine]:
    """Return every machine of the runs, sorted by name."""
    latest = {run.machine: run for run in sorted(runs, key=lambda run: run.started)}
    shown = side_by_side(runs)
    return [
        Machine(name, run, tuple(_headlines([entry for entry in shown if entry.machine == name])))
        for name, run in sorted(latest.items())
    ]


def _headlines(merged: Sequence[Entry]) -> Iterable[Headline]:
    load = _largest(merged, lambda entry: entry.cell["operation"] == "restore")
    step = _largest(merged, lambda entry: entry.cell["workload"] == "step" and bool(entry.cell["options"].get("lora")))
    state = _largest(merged, lambda entry: entry.cell["operation"] == "lora_state")
    if load and (speed := figures.gigabytes_per_second(load)):
        size = load.fixture and units.gigabytes(load.fixture["bytes"])
        value = figure(load, f"{units.digits(speed)} GB/s", f"bytes on disk over the median of {_count(load)}")
        yield Headline(f"restoring a checkpoint of {size}", value, tuple(_speeds(load)))
    if step and (rate := figures.samples_per_second(step)):
        value = figure(step, f"{units.digits(rate.value)} samples/s", f"batch over the median of {_count(step)}")
        yield Headline(f"LoRA fine-tuning, {_configuration(step)}", value, tuple(_speeds(step)))
    if state and (share := figures.over_checkpoint(state)):
        value = figure(state, units.factor(share), f"largest host peak of {_count(state)}, over bytes on disk")
        yield Headline("peak memory over checkpoint size, base to LoRA train state", value, tuple(_peaks(state)))


def _largest(merged: Sequence[Entry], matches: Callable[[Entry], bool]) -> Entry | None:
    """Return the matching entry with the largest size, then the largest batch, then the first."""
    fitting = [entry for entry in merged if matches(entry) and entry.cell["size"] in _SIZES and _is_usual(entry)]
    return max(fitting, key=lambda entry: (_SIZES.index(entry.cell["size"]), _batch(entry)), default=None)


def _is_usual(entry: Entry) -> bool:
    """Whether it is measured as users run it: warm page cache, one device, rematerialization as in openpi."""
    options = entry.cell["options"]
    plain = options.get("temperature") in (None, "warm") and options.get("devices") in (None, 1)
    return plain and entry.cell["operation"] != "train_step_kept"


def _batch(entry: Entry) -> float:
    return float(entry.cell["values"].get("batch", 0))


def _configuration(entry: Entry) -> str:
    return f"size {entry.cell['size']}, batch {entry.cell['options']['batch']}, {entry.cell['options']['dtype']}"


def _count(entry: Entry) -> str:
    return f"{len(entry.cell['samples'])} samples in {len(entry.cell['processes'])} processes"


def _speeds(entry: Entry) -> Iterable[tuple[str, Figure]]:
    for other in beside(entry):
        low, value, high = found = compared(entry, other)
        how = f"{other.subject}'s median over the reference's, in one run; the range is the 95 % interval"
        if shows_a_difference(found):
            yield f"the speed of {other.subject} ({low:.2f} to {high:.2f})", figure(entry, units.factor(value), how)
        else:
            yield f"from the speed of {other.subject} ({low:.2f} to {high:.2f})", figure(entry, NO_DIFFERENCE, how)


def _peaks(entry: Entry) -> Iterable[tuple[str, Figure]]:
    for other in beside(entry):
        ours, theirs = figures.host_peak(entry), figures.host_peak(other)
        if ours is not None and theirs:
            how = f"the reference's largest peak over {other.subject}'s, in one run"
            yield f"the peak of {other.subject}", figure(entry, units.factor(ours / theirs), how)
