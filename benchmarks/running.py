"""Run a plan: create the checkpoints, measure every turn, write the result file, print the tables."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress, TaskID

from benchmarks.cells.checkpoints import Checkpoint, checkpoint_of
from benchmarks.machine import machine
from benchmarks.measure.plan import PLAN, Plan
from benchmarks.measure.process import environment_of
from benchmarks.results import result, terminal
from benchmarks.results.peaks import peak_of
from benchmarks.results.table import print_tables
from benchmarks.results.validity import check_file

_HERE = Path(__file__).parent
_WIDTH = 100


def run(plan: Plan, kept: Path, results: Path, arguments: Sequence[str]) -> int:
    """Measure a whole plan, write the result file and print it.

    Args:
      plan: what to measure.
      kept: the folder in which checkpoints are kept.
      results: the folder for result files; each machine has its own subfolder.
      arguments: the command's arguments, recorded in the file.

    Returns:
      The exit status: 0 if the file obeys the rules and nothing failed.
    """
    started, noise, progress = datetime.now(UTC), machine.Noise(), terminal.progress()
    with progress:
        checkpoints = _checkpoints(plan, kept, progress)
        device = device_facts(plan.device, kept)
        status = _measure(plan, progress)
    whole = result.assemble(
        plan,
        checkpoints,
        started=started,
        arguments=arguments,
        environment=machine.environment(device["accelerators"], noise),
        ceilings=device["ceilings"],
    )
    file = result.write(whole, results)
    print_tables(whole, terminal.console(_WIDTH), _datasheet(device["accelerators"]))
    problems = [problem for problem in check_file(file) if problem.invalid]
    print(f"\n{file}: {len(whole['cells'])} cells, {len(problems)} invalid")
    return int(bool(problems) or status != pytest.ExitCode.OK)


class _Turns:
    """A pytest plugin that hands the plan to ``conftest`` before collection and advances the progress bar per item."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self._plan, self._progress = plan, progress
        self._task = progress.add_task("measuring", total=len(plan.turns))

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[PLAN] = self._plan

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._progress.update(self._task, description=nodeid.partition("[")[2].rstrip("]"))

    def pytest_runtest_logfinish(self) -> None:
        self._progress.advance(self._task)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        # The bar shows progress; failures are reported at the end.
        if report.failed:
            return None
        return (report.outcome if report.when == "call" or report.skipped else "", "", "")


def _measure(plan: Plan, progress: Progress) -> int:
    options = ["--benchmark-enable", "--benchmark-only", "--benchmark-disable-gc", "--benchmark-quiet"]
    quiet = ["-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "--import-mode=importlib"]
    # Ignore the project's pytest settings: they are for its tests, and may need a newer pytest than is installed here.
    root = ["-c", os.devnull, "--rootdir", str(_HERE.parent)]
    return pytest.main([*root, *quiet, *options, str(_HERE)], [_Turns(plan, progress)])


def _checkpoints(plan: Plan, kept: Path, progress: Progress) -> dict[str, Checkpoint]:
    """Return the checkpoint of every cell by the cell's id; each checkpoint is created once."""
    checkpoints: dict[str, Checkpoint] = {}
    for cell in plan.cells:
        task = progress.add_task(f"checkpoint of {cell.id}", total=None, visible=False)
        checkpoints[cell.id] = checkpoint_of(cell, kept, partial(_show, progress, task))
        progress.remove_task(task)
    return checkpoints


def _show(progress: Progress, task: TaskID, done: int, total: int) -> None:
    progress.update(task, completed=done, total=total, visible=True)


def device_facts(device: str, kept: Path) -> dict[str, Any]:
    """Return accelerators and measured ceilings, found by a subprocess: this process must not own a device."""
    command = [sys.executable, "-m", "benchmarks.machine.ceilings", "--folder", str(kept), "--json"]
    environment = os.environ | environment_of(device) | {"PYTHONPATH": str(_HERE.parent)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _datasheet(accelerators: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the datasheet peak of the run's accelerator, TFLOP/s by dtype; empty if unknown."""
    peak = peak_of(accelerators[0]["kind"], accelerators[0]["memory_bytes"]) if accelerators else None
    return {"bfloat16": peak.bf16_tflops} if peak else {}
