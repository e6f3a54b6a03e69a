"""Run ``pi0-compat diff``."""

import argparse
import math
from collections.abc import Iterator, Sequence
from typing import Any

from pi0_compat.checkpoints.diff import Compared, Diff, diff_checkpoints
from pi0_compat.cli import NO, YES
from pi0_compat.cli.config_files import read_config
from pi0_compat.cli.output import Output, Refusal, counted
from pi0_compat.norm_stats.compare import StatsApart
from pi0_compat.params import Leaf
from pi0_compat.text import shorten

_SIDES = {"left": "A", "right": "B"}


def run(options: argparse.Namespace, output: Output) -> int:
    """Compare the checkpoints, and print where they differ."""
    if not 0 <= options.tolerance < math.inf:
        raise Refusal(f"--tolerance is {options.tolerance}; expected a number of 0 or more")
    diff = diff_checkpoints(options.left, options.right, config=read_config(options), progress=output.progress)
    different = diff.differing(options.tolerance)
    structure = [pair for pair in different if pair.distance is None]
    values = [pair for pair in different if pair.distance]
    same = len(diff.pairs) - len(different)
    stats = [one for one in diff.norm_stats if one.relative > options.tolerance]
    lines = [*_lines(structure, values, same, whole=options.all), *_norm_stats(stats, whole=options.all)]
    text = [*_sides(diff), *lines, *_unused(diff), *_problems(diff)]
    document = {
        **_document(diff, structure, values, same),
        "unused": [path for path, _ in diff.unused],
        "problems": {name: [line for side, line in diff.problems if side == _SIDES[name]] for name in _SIDES},
        "norm_stats": [one._asdict() | {"relative": _finite(one.relative)} for one in stats],
    }
    output.give(document | {"differ": bool(different or stats)}, "\n".join(text))
    return NO if different or stats else YES


def _sides(diff: Diff) -> Iterator[str]:
    yield f"A: {diff.left.name} ({diff.left.checkpoint.layout})"
    yield f"B: {diff.right.name} ({diff.right.checkpoint.layout})"


def _lines(structure: Sequence[Compared], values: Sequence[Compared], same: int, *, whole: bool) -> Iterator[str]:
    cut = list if whole else shorten
    if structure:
        yield f"structure: {counted(len(structure), 'array')} not on both sides in the same shape"
        yield from cut([_structure_line(pair) for pair in structure])
    if values:
        yield f"values: other in {counted(len(values), 'array')}; |A - B| / max(|A|, |B|), biggest first"
        yield from cut([_values_line(pair) for pair in values])
    yield f"the same: {'' if structure or values else 'all '}{counted(same, 'array')}"


def _norm_stats(stats: Sequence[StatsApart], *, whole: bool) -> Iterator[str]:
    if stats:
        yield f"norm stats: other in {counted(len(stats), 'statistic')}; in units of the spread, biggest first"
        yield from (list if whole else shorten)([f"  {one.relative:8.2e}  {one.name}: {one.words}" for one in stats])


def _finite(number: float) -> float | None:
    return None if math.isinf(number) else number


def _unused(diff: Diff) -> Iterator[str]:
    yield from (f"not compared: {path}, in {side} alone: no model uses it" for path, side in diff.unused)


def _problems(diff: Diff) -> Iterator[str]:
    for side in _SIDES.values():
        if lines := [line for found, line in diff.problems if found == side]:
            yield f"{side} is not whole: {counted(len(lines), 'problem')}"
            yield from shorten([f"  - {line}" for line in lines])


def _structure_line(pair: Compared) -> str:
    if pair.right is None:
        return f"  - {pair.path}: only in A, {pair.left}"
    if pair.left is None:
        return f"  + {pair.path}: only in B, {pair.right}"
    return f"  ~ {pair.path}: {pair.left} in A, {pair.right} in B"


def _values_line(pair: Compared) -> str:
    assert pair.distance
    assert pair.left
    assert pair.right
    relative, largest, differing, size = pair.distance
    dtypes = "" if pair.left.dtype == pair.right.dtype else f"; {pair.left.dtype.name} -> {pair.right.dtype.name}"
    apart = "not finite on one side" if math.isinf(relative) else f"at most {largest:.2g} apart"
    return f"  {relative:8.2e}  {pair.path}: {differing / size:.1%} of the values, {apart}{dtypes}"


def _document(diff: Diff, structure: Sequence[Compared], values: Sequence[Compared], same: int) -> dict[str, Any]:
    return {
        **{
            name: {"path": side.name, "layout": str(side.checkpoint.layout)}
            for name, side in (("left", diff.left), ("right", diff.right))
        },
        "differ": bool(structure or values),
        "same": same,
        "structure": [_plain(pair) for pair in structure],
        "values": [_plain(pair) for pair in values],
    }


def _plain(pair: Compared) -> dict[str, Any]:
    leaves = {"left": _leaf(pair.left), "right": _leaf(pair.right)}
    if pair.distance is None:
        return {"path": pair.path, **leaves}
    numbers = {name: _finite(x) for name, x in pair.distance._asdict().items()}
    return {"path": pair.path, **numbers, **leaves}


def _leaf(leaf: Leaf | None) -> dict[str, Any] | None:
    return leaf and {"shape": list(leaf.shape), "dtype": leaf.dtype.name}
