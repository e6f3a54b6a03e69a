"""Correctness first: the candidate keeps the contracts of what was changed, before anything of it is timed."""

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
# Of another implementation nobody knows which capability a file serves: what all of them load, restore, and begin with.
_OF_OTHERS = ("restore", "load", "lora_init")
_TAIL = 4000


def contracts_of(baseline: Side, candidate: Side, subject: str) -> list[str]:
    """What pytest has to run: contracts of the touched capability, as paths; all of them where nobody knows which.

    Which contracts look at a file, the museum of faults knows: those that catch a fault in it. Without a change there
    are none.
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
    """The Python files that are not the same in two folders, by their path below."""
    files = {file.relative_to(folder) for folder in (old, new) for file in folder.rglob("*.py")}
    return sorted(str(file) for file in files if _text(old / file) != _text(new / file))


def ask(candidate: Side, subject: str, chosen: Sequence[str]) -> Finding:
    """Run contracts on the candidate."""
    name = name_of(subject)
    is_reference = name == "reference"
    # The reference is asked where it lies: it runs in the suite's own process.
    root = candidate.tree if is_reference and (candidate.tree / _CONTRACTS).is_dir() else ROOT
    interpreter = str(candidate.python or sys.executable) if is_reference else sys.executable
    asked_as = name if is_reference else candidate.asked_as(subject)
    workers = min((os.cpu_count() or 1) + 1, 4)
    command = [interpreter, "-m", "pytest", "-q", "--no-header", "-n", str(workers), "--subject", asked_as, *chosen]
    paths = os.pathsep.join(map(str, candidate.paths if not is_reference else filter(None, [candidate.packages])))
    told = subprocess.run(
        command, cwd=root, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    last = (told.stdout.strip().splitlines() or ["nothing was printed"])[-1].strip("= ")
    # 5: there was none to run.
    verdicts: dict[int, Verdict] = {0: "same", 1: "regressed"}
    verdict = verdicts.get(told.returncode, "error")
    note = last if verdict == "same" else f"{last}\n{(told.stdout + told.stderr)[-_TAIL:]}"
    return Finding(cell="contracts", metric=f"{len(chosen)} chosen", verdict=verdict, note=note)


def _node(contract: str) -> str:
    area, _, fact = contract.partition(".")
    return f"{_CONTRACTS}/test_{area}.py::test_{fact}"


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None
