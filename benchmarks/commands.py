"""Measure time and memory of the ``pi0-compat`` commands: ``python -m benchmarks.commands --size full``.

Each command runs once in its own process, as a user would run it. Seconds are those of the whole process; memory is
its peak resident size (VmHWM). Missing checkpoints are created; the output of the commands is removed at the end.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cells.checkpoints import create_checkpoint
from benchmarks.cells.sizes import Size, sizes
from benchmarks.limits import limit_of
from benchmarks.machine import machine
from benchmarks.results import result, terminal
from benchmarks.running import device_facts

_ROOT = Path(__file__).parents[1]
# Runs in the measured process; the last line of stderr is the peak memory.
_MEASURED = """\
import sys
from pi0_compat.cli.main import main
from suite.subjects.process.memory import peak
status = main(sys.argv[1:])
print(peak(), file=sys.stderr)
sys.exit(status)
"""


class Task(NamedTuple):
    """A command to measure.

    Attributes:
      name: the command as a user types it, without paths.
      arguments: arguments of ``pi0-compat``.
      reads: the checkpoints it reads.
      last_use_of: folders that no later command reads; removed afterwards, so that space for three checkpoints is
        enough.
    """

    name: str
    arguments: Sequence[str]
    reads: Sequence[Path]
    last_use_of: Sequence[Path] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all commands, write the result file, and return 0 if every command succeeded."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.commands", description=__doc__)
    parser.add_argument("--size", choices=sorted(sizes("cpu")), default="small")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for checkpoints and output")
    parser.add_argument("--results", type=Path, default=Path("reports/commands"))
    options = parser.parse_args(arguments)
    started, noise = datetime.now(UTC), machine.Noise()
    size = sizes("cpu")[options.size]
    rows = list(measure(size, options.checkpoints))
    ceilings = device_facts("cpu", options.checkpoints)["ceilings"]
    for row in rows:
        row["limit_s"] = limit_of(row["name"], row["read_bytes"], size, ceilings)
    file = result.write(
        {
            "schema": "pi0-compat/commands",
            "schema_version": 1,
            "run": result.run_of(started, ["--size", options.size]),
            "environment": machine.environment([], noise),
            "size": options.size,
            "ceilings": ceilings,
            "commands": rows,
        },
        options.results,
    )
    print(file)
    return int(any(row["status"] != 0 for row in rows))


def measure(size: Size, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield one row per command: ``name``, ``read_bytes`` (on disk), ``seconds``, ``peak_bytes``, ``status``."""
    base, adapted = (create_checkpoint(size, "openpi", folder, adapted=adapted).path for adapted in (False, True))
    with tempfile.TemporaryDirectory(dir=folder, prefix="commands-") as scratch, terminal.progress() as progress:
        tasks = list(_tasks(size, base, adapted, Path(scratch)))
        bar = progress.add_task("commands", total=len(tasks))
        for task in tasks:
            progress.update(bar, description=task.name)
            yield _measured(task)
            progress.advance(bar)
            for path in task.last_use_of:
                shutil.rmtree(path, ignore_errors=True)


def _tasks(size: Size, base: Path, adapted: Path, scratch: Path) -> Iterator[Task]:
    """Yield the commands in order; some read the output of an earlier one."""
    configs = {}
    for lora in (False, True):
        configs[lora] = scratch / f"{'lora' if lora else 'base'}.json"
        configs[lora].write_text(json.dumps(size.model(lora=lora)), encoding="utf-8")
    plain, with_lora = (["--config-file", str(configs[lora])] for lora in (False, True))
    folded, adapters, torch, attached = (scratch / name for name in ("folded", "adapters", "pytorch", "attached"))
    yield Task("inspect", ["inspect", str(base)], [base])
    yield Task("check --config", ["check", str(base), *plain], [base])
    yield Task("check --values", ["check", str(base), *plain, "--values"], [base])
    yield Task("fold", ["fold", str(adapted), "-o", str(folded), *with_lora], [adapted])
    to_torch = ["convert", str(folded), "--to", "openpi_pytorch", "-o", str(torch), *plain]
    yield Task("convert --to openpi_pytorch", to_torch, [folded])
    yield Task("diff", ["diff", str(folded), str(torch), *plain], [folded, torch], [folded, torch])
    yield Task("extract", ["extract", str(adapted), "-o", str(adapters), *with_lora], [adapted])
    yield Task("attach", ["attach", str(adapters), "--to", str(base), "-o", str(attached)], [adapters, base])


def _measured(task: Task) -> dict[str, Any]:
    read = sum(file.stat().st_size for path in task.reads for file in path.rglob("*") if file.is_file())
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *task.arguments], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - began
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
    last = done.stderr.split()[-1:]
    peak = int(last[0]) if last and last[0].isdecimal() else None
    row = {"name": task.name, "read_bytes": read, "seconds": seconds}
    return {**row, "peak_bytes": peak, "status": done.returncode}


if __name__ == "__main__":
    sys.exit(main())
