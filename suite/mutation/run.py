"""Show faults to contracts, in one pytest run, and judge who caught what."""

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

# Which contracts a fault is shown to.
Pairs = dict[str, list[str]]


def show(faults: Iterable[Fault], pairs: Pairs | None, *, pytest_args: Sequence[str] = ()) -> Matrix:
    """Run contracts on the faults.

    Args:
      faults: whom to ask.
      pairs: the contracts that each fault is shown to; None: all.
      pytest_args: further arguments of pytest.

    Raises:
      RuntimeError: the run did not come to its end.
    """
    if pairs is not None and not any(pairs.values()):
        return Matrix()
    subjects = [f"--subject=fault:{fault.id}" for fault in faults]
    with tempfile.TemporaryDirectory() as folder:
        rows, chosen = Path(folder) / "rows.jsonl", Path(folder) / "pairs.json"
        options = ["-p", "suite.mutation.selection", f"--results={rows}", *_QUIET]
        if pairs is not None:
            chosen.write_text(json.dumps(pairs), encoding="utf-8")
            options.append(f"--pairs={chosen}")
        code = pytest.main([_CONTRACTS, *options, *subjects, *pytest_args])
        if code not in _ENDED:
            raise RuntimeError(f"pytest ended with {code!r}")
        return Matrix.of(_rows(rows))


def named_pairs(faults: Iterable[Fault]) -> Pairs:
    """The contracts that each fault names."""
    return {fault.id: list(fault.caught_by) for fault in faults}


def possible_pairs(faults: Iterable[Fault], reach: Mapping[str, Functions]) -> Pairs:
    """The contracts that enter a function that the fault changes: no other can catch it."""
    changed = {fault.id: changed_functions(fault.patches) for fault in faults}
    return {
        fault: [contract for contract, entered in reach.items() if _meet(functions, entered)]
        for fault, functions in changed.items()
    }


def reach_of_contracts(pytest_args: Sequence[str] = ()) -> dict[str, Functions]:
    """The functions of the reference that each contract enters, in any of its cases, found by one run of all of them.

    Raises:
      RuntimeError: the run did not come to its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["-p", "suite.mutation.reach", f"--subject={_WATCHED}", f"--reach={folder}", *_QUIET]
        code = pytest.main([_CONTRACTS, *options, *pytest_args])
        if code not in _ENDED:
            raise RuntimeError(f"pytest ended with {code!r}")
        # Not before: pytest complains of plugins that are imported already.
        from suite.mutation.reach import read_reach

        return read_reach(Path(folder))


def contract_cases() -> dict[str, int]:
    """Every contract that there is, and the number of its cases."""
    collected = _Collected()
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([_CONTRACTS, "--collect-only", "-qq"], plugins=[collected])
    return dict(sorted(collected.cases.items()))


class _Collected:
    """A pytest plugin that counts the cases of contracts, for the reference as the only subject."""

    def __init__(self) -> None:
        self.cases: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = (contract_of(item.function) for item in items if isinstance(item, pytest.Function))
        self.cases.update(contract.id for contract in found if contract)


def _meet(functions: Functions, others: Functions) -> bool:
    """Whether there may be a function in both."""
    return functions is None or others is None or not functions.isdisjoint(others)


def _rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a whole stream."""
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    if not records or records[-1]["kind"] != "footer":
        raise RuntimeError("the stream of results has no end")
    return [record for record in records if record["kind"] == "row"]
