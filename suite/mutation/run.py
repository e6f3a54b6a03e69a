"""Run contracts on faults, in one pytest run, and collect what each contract catches."""

import contextlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from suite.faults.fault import Fault
from suite.mutation.changes import Functions, changed_functions
from suite.mutation.matrix import Matrix
from suite.session.registry import contract_of

_CONTRACTS = str(Path(__file__).parents[1] / "contracts")
_WATCHED = str(Path(__file__).with_name("watched.py"))
_QUIET = ("-q", "--tb=no", "--no-summary", "--no-header")
_ENDED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)

# Fault -> the contracts to run on it.
Pairs = dict[str, list[str]]


def run_contracts(faults: Iterable[Fault], pairs: Pairs | None, *, pytest_args: Sequence[str] = ()) -> Matrix:
    """Run contracts on faults.

    Args:
      faults: the faults to run on.
      pairs: the contracts to run on each fault; None means all.
      pytest_args: additional arguments for pytest.

    Raises:
      RuntimeError: the run did not finish.
    """
    if pairs is not None and not any(pairs.values()):
        return Matrix()
    subjects = [f"--subject=fault:{fault.id}" for fault in faults]
    with tempfile.TemporaryDirectory() as folder:
        rows, pairs_file = Path(folder) / "rows.jsonl", Path(folder) / "pairs.json"
        options = ["-p", "suite.mutation.selection", f"--results={rows}", *_QUIET]
        if pairs is not None:
            pairs_file.write_text(json.dumps(pairs), encoding="utf-8")
            options.append(f"--pairs={pairs_file}")
        code = pytest.main([_CONTRACTS, *options, *subjects, *pytest_args])
        if code not in _ENDED:
            raise RuntimeError(f"pytest ended with {code!r}")
        return Matrix.of(_rows(rows))


def named_pairs(faults: Iterable[Fault]) -> Pairs:
    """Return the contracts that each fault names."""
    return {fault.id: list(fault.caught_by) for fault in faults}


def possible_pairs(faults: Iterable[Fault], reach: Mapping[str, Functions]) -> Pairs:
    """Return the contracts that enter a function changed by each fault; no other contract can catch it."""
    changed = {fault.id: changed_functions(fault.patches) for fault in faults}
    return {
        fault: [contract for contract, entered in reach.items() if _may_overlap(functions, entered)]
        for fault, functions in changed.items()
    }


def reach_of_contracts(pytest_args: Sequence[str] = ()) -> dict[str, Functions]:
    """Run all contracts once and return the functions of the reference that each one enters in any of its cases.

    Args:
      pytest_args: additional arguments for pytest.

    Raises:
      RuntimeError: the run did not finish.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["-p", "suite.mutation.reach", f"--subject={_WATCHED}", f"--reach={folder}", *_QUIET]
        code = pytest.main([_CONTRACTS, *options, *pytest_args])
        if code not in _ENDED:
            raise RuntimeError(f"pytest ended with {code!r}")
        # Imported only now, since pytest warns about plugins that are already imported.
        from suite.mutation.reach import read_reach

        return read_reach(Path(folder))


def contract_cases() -> dict[str, int]:
    """Collect the contracts and return each one's number of cases, by id."""
    counter = _CaseCounter()
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([_CONTRACTS, "--collect-only", "-qq"], plugins=[counter])
    return dict(sorted(counter.cases.items()))


class _CaseCounter:
    """A pytest plugin that counts the cases of each contract, with the reference as the only subject."""

    def __init__(self) -> None:
        self.cases: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        contracts = (contract_of(item.function) for item in items if isinstance(item, pytest.Function))
        self.cases.update(contract.id for contract in contracts if contract)


def _may_overlap(functions: Functions, others: Functions) -> bool:
    """Return whether the two sets may share a function."""
    return functions is None or others is None or not functions.isdisjoint(others)


def _rows(file: Path) -> list[dict[str, Any]]:
    """Read the rows of a complete results file."""
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    if not records or records[-1]["kind"] != "footer":
        raise RuntimeError("the results file has no footer")
    return [record for record in records if record["kind"] == "row"]
