"""``python -m benchmarks accelerator``: what to measure where an accelerator is at hand for ten minutes.

Real-size LoRA steps of pi0 and pi0-FAST, restoring into the device's memory, and sampling, beside openpi's code if its
harness runs on the same jax. What matters most comes first, and each part writes a result file of its own, so that time
that runs out costs only the parts that are left; they are printed.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# The most important first; ids of cells, without the size.
PARTS = (
    ("step/train_step/{size}/lora/batch-{batch}",),
    ("sampling/sample_actions/{size}/batch-1",),
    ("step/train_step/{size}/pi0_fast/lora/batch-{batch}",),
    ("load/restore/{size}/warm", "load/restore/{size}/pi0_fast/warm"),
    (
        "sampling/sample_tokens/{size}/pi0_fast/batch-1/tokens-64",
        "sampling/sample_tokens/{size}/pi0_fast/batch-1/tokens-1",
    ),
)
_BATCH = 8
# A part that has less time left is not begun: starting processes and compiling alone take as long.
_LEAST_SECONDS = 45.0
_FAMILIES = ["--family", "pi0", "--family", "pi0_fast"]


def main(arguments: Sequence[str]) -> int:
    """Measure the parts in order until the time is over; return 0 if all were measured and valid."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks accelerator", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--size", default="full", choices=("tiny", "small", "full"))
    parser.add_argument("--device", default="gpu", choices=("cpu", "gpu", "tpu"))
    parser.add_argument("--subject", action="append", default=[], metavar="NAME[=PYTHON]", help="beside the reference")
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything; default: 9.5")
    parser.add_argument("--checkpoints", type=Path, help="folder in which checkpoints are kept")
    parser.add_argument("--results", type=Path, help="folder for the result files")
    options = parser.parse_args(arguments)
    end = time.monotonic() + 60 * options.minutes
    failed = [cell for part in PARTS for cell in _measured(part, options, end)]
    for cell in failed:
        print(f"not measured: {cell}", file=sys.stderr)
    return int(bool(failed))


def _measured(part: Sequence[str], options: argparse.Namespace, end: float) -> list[str]:
    """Measure the cells of a part; return them if they were not measured."""
    cells = [cell.format(size=options.size, batch=_BATCH) for cell in part]
    left = end - time.monotonic()
    if left < _LEAST_SECONDS:
        return cells
    command = [sys.executable, "-m", "benchmarks", "--size", options.size, "--device", options.device, *_FAMILIES]
    command += ["--batch", str(_BATCH), "--devices", "1", "--passes", "1"]
    command += [*(word for cell in cells for word in ("--only", cell))]
    command += [word for subject in options.subject for word in ("--subject", subject)]
    for name in ("checkpoints", "results"):
        if folder := getattr(options, name):
            command += [f"--{name}", str(folder)]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parents[1], timeout=left, check=False)
    except subprocess.TimeoutExpired:
        return cells
    return cells if done.returncode else []
