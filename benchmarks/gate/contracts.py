"""Correctness first: run the contracts that cover the changed files on the candidate before timing anything."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gate.findings import Finding, Verdict
from benchmarks.gate.sides import Side
from benchmarks.measure.process import ROOT
from suite.faults import all_faults
from suite.subjects.process.harness_files import name_of

_REFERENCE = Path("pi0_compat")
_CONTRACTS = "suite/contracts"
# For another implementation, the files do not map to contracts: run the areas that every implementation needs.
_OF_OTHERS = ("restore", "load", "lora_init")
_TAIL = 4000


def contracts_of(baseline: Side, candidate: Side, subject: str) -> list[str]:
    """Return the contracts to run, as pytest paths: those that cover the changed files, or all if that is unknown.

    A contract covers a file if it catches a fault of the museum in that file. Without a change, none are returned.
    """
    name = name_of(subject)
    if name != "reference":
        return [f"{_CONTRACTS}/test_{area}.py" for area in _OF_OTHERS]
    changed = changed_files(baseline.tree / _REFERENCE, candidate.tree / _REFERENCE)
    catching = {file: set[str]() for file in changed}
    for fault in all_faults().values():
        for patch in fault.patches:
            if patch.file in catching:
                catching[patch.file] |= set(fault.caught_by)
    others = baseline.python or baseline.packages or candidate.python or candidate.packages
    if others or not all(catching.values()):
        return [_CONTRACTS]
    return sorted({_node(contract) for contracts in catching.values() for contract in contracts})


def changed_files(old: Path, new: Path) -> list[str]:
    """Return the relative paths of the Python files that differ between two folders."""
    files = {file.relative_to(folder) for folder in (old, new) for file in folder.rglob("*.py")}
    return sorted(str(file) for file in files if _text(old / file) != _text(new / file))


def ask(candidate: Side, subject: str, chosen: Sequence[str]) -> Finding:
    """Run contracts on the candidate."""
    name = name_of(subject)
    is_reference = name == "reference"
    # The reference is tested in the candidate's checkout: it runs in the suite's own process.
    root = candidate.tree if is_reference and (candidate.tree / _CONTRACTS).is_dir() else ROOT
    interpreter = str(candidate.python or sys.executable) if is_reference else sys.executable
    asked_as = name if is_reference else candidate.asked_as(subject)
    workers = min((os.cpu_count() or 1) + 1, 4)
    command = [interpreter, "-m", "pytest", "-q", "--no-header", "-n", str(workers), "--subject", asked_as, *chosen]
    paths = os.pathsep.join(map(str, candidate.paths if not is_reference else filter(None, [candidate.packages])))
    done = subprocess.run(
        command, cwd=root, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    last = (done.stdout.strip().splitlines() or ["nothing was printed"])[-1].strip("= ")
    # pytest exits with 5 if it collected no test.
    verdicts: dict[int, Verdict] = {0: "same", 1: "regressed"}
    verdict = verdicts.get(done.returncode, "error")
    note = last if verdict == "same" else f"{last}\n{(done.stdout + done.stderr)[-_TAIL:]}"
    return Finding(cell="contracts", metric=f"{len(chosen)} chosen", verdict=verdict, note=note)


def _node(contract: str) -> str:
    area, _, fact = contract.partition(".")
    return f"{_CONTRACTS}/test_{area}.py::test_{fact}"


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None
