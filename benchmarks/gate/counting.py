"""The first pass: compare counts, taken once on each side, and a second time only where the sides differ."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.cells.cells import Cell
from benchmarks.gate.findings import Finding, Verdict
from benchmarks.gate.metrics import COUNTED, Metric

Counts = Mapping[str, Any]
# The relative difference of a loss that rounding may cause when a program is compiled differently.
_LOSS_SLACK = 1e-4


def compare(cell: Cell, old: list[Counts], new: list[Counts]) -> list[Finding]:
    """Compare a cell's counts.

    Args:
      cell: the counted cell.
      old: the baseline's counts, one per process (one or two).
      new: the candidate's counts, as many.
    """
    return [*_leaves(cell, old, new), *_losses(cell, old, new), *_values(cell, old, new)]


def differ(cell: Cell, old: Counts, new: Counts) -> bool:
    """Whether the counts of one process per side differ, so that a second count is needed."""
    return any(finding.verdict != "same" for finding in compare(cell, [old], [new]))


def same_program(old: Counts, new: Counts) -> bool:
    """Whether both sides compiled the same program, which then takes the same time."""
    return "program" in old and old["program"] == new.get("program")


def _leaves(cell: Cell, old: list[Counts], new: list[Counts]) -> Iterator[Finding]:
    """Yield one finding for all loaded parameters: dtype, shape, values and placement of each."""
    if "leaves" not in old[0]:
        return
    before, after = old[0]["leaves"], new[0]["leaves"]
    shaky = {path for side in (old, new) for again in side[1:] for path in _unlike(side[0]["leaves"], again["leaves"])}
    unlike = [path for path in _unlike(before, after) if path not in shaky]
    if unlike:
        first = unlike[0]
        texts = _text(before.get(first)), _text(after.get(first))
        note = f"{len(unlike)} of {len(before)} parameters differ from the baseline's: {', '.join(unlike[:3])}"
        yield Finding(cell=cell.id, metric="result", verdict="regressed", old=texts[0], new=texts[1], note=note)
    elif shaky:
        note = f"{len(shaky)} parameters differ between two loads of the same side, for example {min(shaky)}"
        yield Finding(cell=cell.id, metric="result", verdict="unstable", note=note)
    else:
        yield Finding(cell=cell.id, metric="result", verdict="same", note=f"{len(after)} parameters")


def _losses(cell: Cell, old: list[Counts], new: list[Counts]) -> Iterator[Finding]:
    if "losses" not in old[0]:
        return
    before, after = old[0]["losses"], new[0]["losses"]
    off = max((abs(b - a) / max(abs(a), 1e-6) for a, b in zip(before, after, strict=True)), default=0.0)
    verdict: Verdict = "same" if off <= _LOSS_SLACK else "regressed"
    yield Finding(cell=cell.id, metric="losses", verdict=verdict, old=before[-1], new=after[-1])


def _values(cell: Cell, old: list[Counts], new: list[Counts]) -> Iterator[Finding]:
    for name, metric in COUNTED.items():
        before, after = ([counts["values"].get(name) for counts in side] for side in (old, new))
        if None in before and None in after:
            continue
        if None in before + after:
            note = "known on one side only"
            yield Finding(cell=cell.id, metric=name, verdict="skipped", old=before[0], new=after[0], note=note)
        else:
            yield _value(cell, metric, before, after)


def _value(cell: Cell, metric: Metric, old: list[float], new: list[float]) -> Finding:
    verdict: Verdict = metric.compare(old[0], new[0])
    note = ""
    if verdict != "same" and _overlap(old, new):
        verdict, note = "unstable", f"{sorted({*old})} and {sorted({*new})} in two processes each"
    ratio = new[0] / old[0] if old[0] else None
    return Finding(cell=cell.id, metric=metric.name, verdict=verdict, old=old[0], new=new[0], ratio=ratio, note=note)


def _overlap(old: list[float], new: list[float]) -> bool:
    """Whether the sides differ by no more than two processes of the same side."""
    apart = max(min(new) - max(old), min(old) - max(new))
    return apart <= max(max(side) - min(side) for side in (old, new))


def _unlike(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]


def _text(leaf: Any) -> str:
    if leaf is None:
        return "nothing"
    dtype, shape, sha, placement = leaf
    return f"{dtype}{shape} on {placement}, {sha[:12]}"
