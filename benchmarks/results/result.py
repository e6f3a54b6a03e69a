"""Write the result file of a run: raw samples and everything needed to judge them."""

import dataclasses
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.cells.cells import Cell
from benchmarks.cells.checkpoints import Checkpoint
from benchmarks.measure.plan import Plan
from suite.subjects.process.harness_files import name_of

_ROOT = Path(__file__).parents[2]
# The description of a subject that could not be started.
_UNKNOWN = {"python": "unknown", "packages": {}, "device": "unknown"}


def assemble(
    plan: Plan,
    checkpoints: Mapping[str, Checkpoint],
    *,
    started: datetime,
    arguments: Sequence[str],
    environment: dict[str, Any],
    ceilings: dict[str, Any],
) -> dict[str, Any]:
    """Return the file's content; ``reports/schema/results.schema.json`` documents each part.

    Args:
      plan: the plan, with its records.
      checkpoints: the checkpoint of each cell, by the cell's id.
      started: when the run began.
      arguments: the command's arguments; folders in them are replaced by "...".
      environment: see ``benchmarks.machine.machine``.
      ceilings: see ``benchmarks.machine.ceilings``.
    """
    run = run_of(started, arguments)
    ours = f"{run['commit'][:7]}{'+' * run['dirty']}"
    return {
        "schema": "pi0-compat/benchmark",
        "schema_version": 1,
        "run": run,
        "environment": environment,
        "subjects": {name: _described(plan.descriptions.get(name, {}), ours) for name in map(name_of, plan.subjects)},
        "ceilings": ceilings,
        "fixtures": list({checkpoint.id: checkpoint.fixture for checkpoint in checkpoints.values()}.values()),
        "cells": [
            _cell(plan, cell, subject, checkpoints[cell.id].id) for cell in plan.cells for subject in plan.subjects
        ],
    }


def run_of(started: datetime, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the ``run`` of a result file: time, commit and arguments; folders in them are replaced by "..."."""
    commit, when = _git("rev-parse", "HEAD"), f"{started:%Y-%m-%dT%H:%M:%SZ}"
    return {
        "id": f"{when}-{commit[:7]}",
        "started": when,
        "commit": commit,
        "dirty": bool(_git("status", "--porcelain")),
        "version": tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
        "arguments": _without_folders(arguments),
    }


def write(result: dict[str, Any], folder: Path) -> Path:
    """Write a result as a new file in its machine's subfolder of ``folder``."""
    file = folder / str(result["environment"]["slug"]) / f"{result['run']['id'].replace(':', '')}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as opened:
        json.dump(result, opened, indent=1)
        opened.write("\n")
    return file


def _described(description: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return a subject's description of itself; ``version`` (the checkout's) is the default."""
    known = _UNKNOWN | {"version": version if description else "unavailable"}
    return {part: description.get(part, default) for part, default in known.items()}


def _cell(plan: Plan, cell: Cell, asked_as: str, fixture: str) -> dict[str, Any]:
    subject = name_of(asked_as)
    return {
        "id": cell.id,
        "subject": subject,
        "workload": cell.workload,
        "operation": cell.operation,
        "size": cell.size.name,
        "fixture": fixture,
        "options": cell.options,
        **dataclasses.asdict(plan.records[cell.id, subject]),
    }


def _git(*arguments: str) -> str:
    """Return git's output for this checkout; a copy without git names its commit in GIT_COMMIT."""
    done = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() or os.environ.get("GIT_COMMIT", "") * (arguments[0] == "rev-parse")


def _without_folders(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without paths of this machine."""
    return [re.sub(r"(^|=)[^=\s]*/\S*", r"\1...", argument) for argument in arguments]
