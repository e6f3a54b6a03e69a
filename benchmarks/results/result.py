"""The result file of a run: raw samples, and all that is needed to judge them."""

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
# What is known of a subject that could not be started.
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
    """The file's content; ``reports/schema/results.schema.json`` says what each part means.

    Args:
      plan: with its records.
      checkpoints: what each cell read, by the cell's id.
      started: when the run began.
      arguments: of the command; folders in them are left out.
      environment: see ``benchmarks.machine.machine``.
      ceilings: see ``benchmarks.machine.ceilings``.
    """
    told = run_of(started, arguments)
    ours = f"{told['commit'][:7]}{'+' * told['dirty']}"
    return {
        "schema": "pi0-compat/benchmark",
        "schema_version": 1,
        "run": told,
        "environment": environment,
        "subjects": {name: _described(plan.descriptions.get(name, {}), ours) for name in map(name_of, plan.subjects)},
        "ceilings": ceilings,
        "fixtures": list({checkpoint.id: checkpoint.fixture for checkpoint in checkpoints.values()}.values()),
        "cells": [
            _cell(plan, cell, subject, checkpoints[cell.id].id) for cell in plan.cells for subject in plan.subjects
        ],
    }


def run_of(started: datetime, arguments: Sequence[str]) -> dict[str, Any]:
    """The ``run`` of a result file: when, from which sources, with which arguments; folders in them are left out."""
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
    """Write a result as a new file, below a folder of its machine."""
    file = folder / str(result["environment"]["slug"]) / f"{result['run']['id'].replace(':', '')}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as opened:
        json.dump(result, opened, indent=1)
        opened.write("\n")
    return file


def _described(told: Mapping[str, Any], version: str) -> dict[str, Any]:
    """A subject's own words; one of this checkout has the checkout's version."""
    known = _UNKNOWN | {"version": version if told else "unavailable"}
    return {part: told.get(part, default) for part, default in known.items()}


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
    """What git says of this checkout; a copy without git has the commit that it was made from in GIT_COMMIT."""
    told = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=False)
    return told.stdout.strip() or os.environ.get("GIT_COMMIT", "") * (arguments[0] == "rev-parse")


def _without_folders(arguments: Sequence[str]) -> list[str]:
    """The arguments without the paths of this machine."""
    return [re.sub(r"(^|=)[^=\s]*/\S*", r"\1...", argument) for argument in arguments]
