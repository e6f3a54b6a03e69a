"""Validity rules of a measured cell, one function each; ``benchmarks.results.validity`` applies them all.

A rule takes a measured cell and the whole result, and returns a message with the expected and the actual value, or
None. The rules follow MLPerf's for LoRA: a fast but wrong loader is not a result, and too good is suspicious.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.results.summaries import ceiling, median, operations_per_second

Json = Mapping[str, Any]
Rule = Callable[[Json, Json], str | None]

REFERENCE = "reference"
# Workloads that are compiled once and run repeatedly.
PROGRAMS = ("step", "sampling")
# Dtype -> the allowed relative difference of a loss from the reference's.
TOLERANCES = {"float32": 1e-3, "bfloat16": 2e-2}
# The operation whose losses stand for tokens, which are the same or not.
WRITES_TOKENS = "sample_tokens"
# The minimum number of samples and of processes.
ENOUGH, ENOUGH_IF_LONG, ENOUGH_IF_TINY = (10, 3), (3, 3), (1, 1)
LONG_S = 10.0
# The share of a checkpoint's bytes that a cold load must read from disk; files that no loader needs may stay unread. In
# tiny checkpoints those are nearly half (orbax's per-process metadata).
FROM_DISK, FROM_DISK_IF_TINY = 0.9, 0.5
_SHOWN = 3


def loads_what_is_expected(cell: Json, _: Json) -> str | None:
    """The digest of a load's or a LoRA operation's result is as expected: skipping a leaf is not a speedup."""
    if cell["workload"] not in ("load", "lora"):
        return None
    digest = cell["digest"]
    if digest is None:
        return "expected a digest of the result, found none; take one of every array"
    if digest["found"] == digest["expected"] and not digest["differing"]:
        return None
    listed = "; ".join(digest["differing"][:_SHOWN]) or "no array is named"
    more = len(digest["differing"]) - _SHOWN
    return f"the result is not the expected one: {listed}{f'; and {more} more' if more > 0 else ''}"


def cold_loads_read_the_disk(cell: Json, result: Json) -> str | None:
    """Every sample of a cold load read the checkpoint from a disk; a folder in memory has no cold loads."""
    if cell["options"].get("temperature") != "cold":
        return None
    size = next((fixture["bytes"] for fixture in result["fixtures"] if fixture["id"] == cell["fixture"]), 0)
    read = [sample.get("disk_bytes") for sample in cell["samples"]]
    if None in read:
        return "expected the bytes a cold load read from the disk, found that this system does not report them"
    least, share = min(read, default=0), FROM_DISK_IF_TINY if cell["size"] == "tiny" else FROM_DISK
    if least >= share * size:
        return None
    return (
        f"expected a cold load to read {size:,} bytes from the disk, found {least:,}; "
        "choose a folder on a disk for --checkpoints"
    )


def losses_are_finite(cell: Json, _: Json) -> str | None:
    """Losses exist and are finite: a diverged training says nothing about speed. The same holds for sampled actions."""
    losses = cell["losses"]
    if cell["workload"] not in PROGRAMS or (cell["workload"] == "sampling" and losses is None):
        return None
    if losses is None:
        return "expected losses, found none"
    wrong = [place for place, loss in enumerate(losses) if loss is None or not math.isfinite(loss)]
    return f"expected finite losses, found loss {wrong[0]} to be {losses[wrong[0]]}" if wrong else None


def losses_are_as_many_as_samples(cell: Json, _: Json) -> str | None:
    """Every timed step has a loss; warm-up steps may have one too."""
    losses, samples = cell["losses"], len(cell["samples"])
    if cell["workload"] != "step" or losses is None or len(losses) >= samples:
        return None
    return f"expected a loss for each of {samples} samples, found {len(losses)} losses"


def losses_change(cell: Json, _: Json) -> str | None:
    """Losses change from step to step; constant losses mean that nothing was trained."""
    losses = cell["losses"] or []
    if cell["workload"] != "step" or len(losses) < 2 or len(set(losses)) > 1:
        return None
    return f"expected losses that change, found {len(losses)} times {losses[0]}"


def losses_are_the_references(cell: Json, result: Json) -> str | None:
    """Losses equal the reference's on the same cell. Lower is just as wrong: another batch, or another objective."""
    trace = _reference_losses(cell, result)
    if trace is None or losses_are_finite(cell, result):
        return None
    dtype = cell["options"].get("dtype")
    if cell["operation"] == WRITES_TOKENS:
        return None if set(cell["losses"] or ()) <= set(trace) else "expected the tokens of the reference, found others"
    if dtype not in TOLERANCES:
        return f"expected options.dtype {' or '.join(TOLERANCES)} to compare losses, found {dtype}"
    for place, (actual, expected) in enumerate(zip(cell["losses"] or (), trace, strict=False)):
        if abs(actual - expected) > TOLERANCES[dtype] * abs(expected):
            return f"loss {place}: expected {expected:.6g} within {TOLERANCES[dtype]:g} of it, found {actual:.6g}"
    return None


def samples_are_enough(cell: Json, _: Json) -> str | None:
    """At least ten samples in three fresh processes; three in three if one takes over ten seconds; one for tiny."""
    times = [sample["wall_s"] for sample in cell["samples"]]
    processes = {sample["process"] for sample in cell["samples"]}
    long = bool(times) and median(times) > LONG_S
    few, apart = ENOUGH_IF_TINY if cell["size"] == "tiny" else ENOUGH_IF_LONG if long else ENOUGH
    if len(times) >= few and len(processes) >= apart:
        return None
    return f"expected at least {few} samples of {apart} processes, found {len(times)} of {len(processes)}"


def samples_have_processes(cell: Json, _: Json) -> str | None:
    """Every sample belongs to a listed process, and every listed process has a sample: none is dropped silently."""
    named, listed = {sample["process"] for sample in cell["samples"]}, set(range(len(cell["processes"])))
    if named == listed:
        return None
    return f"expected samples of processes {_places(listed)}, as listed, found {_places(named)}"


def compiles_once(cell: Json, _: Json) -> str | None:
    """Every process of a step or a sampling compiled it exactly once; otherwise samples include compilation."""
    if cell["workload"] not in PROGRAMS:
        return None
    counts = [process.get("compiles") for process in cell["processes"]]
    wrong = [place for place, compiles in enumerate(counts) if compiles != 1]
    if not counts:
        return "expected one compilation per process, found no process"
    return f"expected one compilation per process, found {counts[wrong[0]]} in process {wrong[0]}" if wrong else None


def stays_below_the_ceiling(cell: Json, result: Json) -> str | None:
    """No step exceeds the FLOP/s of the machine's own matrix product; otherwise the operations were miscounted."""
    rate, limit = operations_per_second(cell), ceiling(cell, result)
    if rate is None or limit is None or rate <= limit:
        return None
    return f"expected at most {limit / 1e12:.3g} TFLOP/s, as measured, found {rate / 1e12:.3g}; recount the operations"


def is_a_measurement(cell: Json, _: Json) -> str | None:
    """The cell is not of size tiny, whose times are dominated by Python."""
    return "a smoke test: tiny sizes measure nothing" if cell["size"] == "tiny" else None


def losses_are_compared(cell: Json, result: Json) -> str | None:
    """The reference is in the same file; without it, the steps cannot be verified."""
    if cell["workload"] not in PROGRAMS or cell["subject"] == REFERENCE:
        return None
    return None if _reference_losses(cell, result) and cell["losses"] else "losses not compared with the reference's"


def takes_as_long_as_reading(cell: Json, result: Json) -> str | None:
    """A load is not faster than the measured read of its bytes; otherwise it was cached, or the ceiling is too low."""
    speed, read = result["ceilings"]["read_warm_gbs"], [sample["read_bytes"] for sample in cell["samples"]]
    if cell["workload"] != "load" or not speed or not read or None in read:
        return None
    least, took = median(read) / (speed * 1e9), median([sample["wall_s"] for sample in cell["samples"]])
    return f"faster than a warm read: {took:.3g} s, a read takes {least:.3g} s" if took < least else None


def ceiling_is_known(cell: Json, result: Json) -> str | None:
    """The ceiling rule could be applied: the operations are counted and the dtype's ceiling was measured."""
    if cell["workload"] not in PROGRAMS or (operations_per_second(cell) and ceiling(cell, result)):
        return None
    return "not compared with the ceiling: operations or ceiling unknown"


# In order of reporting: tables show a cell's first problem.
BREAKS: tuple[Rule, ...] = (
    loads_what_is_expected,
    cold_loads_read_the_disk,
    losses_are_finite,
    losses_are_as_many_as_samples,
    losses_change,
    losses_are_the_references,
    stays_below_the_ceiling,
    compiles_once,
    samples_are_enough,
    samples_have_processes,
)
NOTES: tuple[Rule, ...] = (
    is_a_measurement,
    losses_are_compared,
    takes_as_long_as_reading,
    ceiling_is_known,
)


def _reference_of(cell: Json, result: Json) -> Json | None:
    """Return the reference's measurement of the same cell; None for the reference itself."""
    if cell["subject"] == REFERENCE:
        return None
    return next((other for other in result["cells"] if _is_reference(other) and other["id"] == cell["id"]), None)


def _is_reference(cell: Json) -> bool:
    return bool(cell["subject"] == REFERENCE and cell["outcome"] == "measured")


def _reference_losses(cell: Json, result: Json) -> Sequence[float] | None:
    """Return the reference's losses to compare with; None if they are missing or wrong themselves."""
    reference = _reference_of(cell, result)
    if reference is None or losses_are_finite(reference, result) or losses_change(reference, result):
        return None
    return reference["losses"] or None


def _places(found: set[int]) -> str:
    return ", ".join(map(str, sorted(found))) or "none"
