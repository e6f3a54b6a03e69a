"""What the commands that write a checkpoint print about it."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pi0_compat.checkpoints.convert import Converted
from pi0_compat.checkpoints.lora import Made
from pi0_compat.cli.output import Output, counted
from pi0_compat.lora.alphas import describe_scale
from pi0_compat.lora.fold import LOSS_TO_WARN_OF
from pi0_compat.params import Leaf, bytes_by_dtype, num_bytes
from pi0_compat.text import format_bytes

_LINES = 8


def written(path: Path, leaves: Mapping[str, Leaf], assets: bool | None) -> list[str]:
    """Return lines about what was written."""
    dtypes = bytes_by_dtype(leaves)
    sizes = ", ".join(f"{format_bytes(size)} of {name}" for name, size in dtypes.items())
    lines = [
        f"wrote {path}: {counted(len(leaves), 'parameter')}, {sizes}",
        "  read back: every parameter is as intended",
    ]
    return lines if assets is None else [*lines, f"  norm stats: {'copied' if assets else 'none'}"]


def scales(made: Made | Converted, options: argparse.Namespace) -> list[str]:
    """Return lines about the scale of every group of adapters, and what it was taken from."""
    origin = {
        "config": f"--config {options.config}" if options.config else f"--config-file {options.config_file}",
        "record": "what is recorded with the checkpoint",
        "alpha": "--lora-alpha",
        "peft": "adapter_config.json",
    }.get(made.origin)
    if not made.scales or not origin:
        return []
    return [f"scales, from {origin}:", *(f"  {describe_scale(name, spec)}" for name, spec in made.scales.items())]


def scales_document(made: Made | Converted) -> dict[str, Any]:
    """Return the scales, and what they were taken from, as plain data."""
    return {
        "scales": {name: {**spec.to_json(), "scale": spec.scale} for name, spec in made.scales.items()},
        "scales_from": made.origin,
    }


def losses(lost: Mapping[str, float]) -> list[str]:
    """Return lines about the share of each adapter that rounding took."""
    if not lost:
        return []
    width = max(map(len, lost))
    lines = [f"  {path:<{width}}  {_percent(share)}" for path, share in sorted(lost.items())]
    return [f"folded {counted(len(lost), 'adapter')}; rounding took this share of each:", *lines]


def warn_of_losses(lost: Mapping[str, float], output: Output) -> None:
    """Warn if rounding took a share of an adapter that changes what the model computes."""
    worst = max(lost, key=lost.__getitem__, default="")
    if worst and lost[worst] > LOSS_TO_WARN_OF:
        output.warn(f"rounding took {_percent(lost[worst])} of the adapter of {worst}; to keep it: --dtype float32")


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "under 0.1%"


def listed(leaves: Mapping[str, Leaf], what: str) -> list[str]:
    """Return lines for up to eight parameters, then a count of the rest."""
    if not leaves:
        return []
    size = format_bytes(num_bytes(leaves))
    lines = [f"  {path}: {leaf}" for path, leaf in sorted(leaves.items())]
    more = [f"  ... and {len(lines) - _LINES} more; --json lists them all"] if len(lines) > _LINES else []
    return [f"{what}: {counted(len(leaves), 'parameter')}, {size}", *lines[:_LINES], *more]


def document(path: str, out: Path, leaves: Mapping[str, Leaf], assets: bool | None) -> dict[str, Any]:
    """Return what was written as plain data."""
    return {
        "path": path,
        "out": str(out),
        "parameters": len(leaves),
        "bytes": bytes_by_dtype(leaves),
        "assets": assets,
        "verified": True,
    }
