"""The matrix of mutation testing: which contract catches which fault. Built from result rows, written as JSON lines."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.faults.fault import Fault
from suite.session.results import manifest

_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Matrix:
    """The outcome of every fault.

    Attributes:
      caught: fault -> contract that fails on it -> the first failing case.
      passed: fault -> the contracts that pass on it.
    """

    caught: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    passed: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "Matrix":
        """Build the matrix from a run's result rows, whose subjects are named ``fault:<id>``."""
        matrix = cls()
        for row in rows:
            fault, contract = row["subject"].removeprefix("fault:"), row["contract"]
            if row["outcome"] == "fail":
                matrix.caught[fault].setdefault(contract, row["case"])
            elif row["outcome"] in ("pass", "error"):
                matrix.passed[fault].add(contract)
        for fault, contracts in matrix.caught.items():
            matrix.passed[fault] -= contracts.keys()
        return matrix

    def problems(self, faults: Iterable[Fault], contracts: Iterable[str]) -> list[str]:
        """Return a message for each contract that misses a fault which names it, for each fault that no contract
        catches, and for each of ``contracts`` that catches no fault."""
        faults = list(faults)
        missed = [
            f"{contract} does not catch {fault.id}: {fault.story}"
            for fault in faults
            for contract in fault.caught_by
            if contract not in self.caught[fault.id]
        ]
        uncaught = [f"nothing catches {fault.id}: {fault.story}" for fault in faults if not self.caught[fault.id]]
        useful = {contract for caught in self.caught.values() for contract in caught}
        useless = [f"{contract} catches no fault" for contract in sorted(set(contracts) - useful)]
        return missed + uncaught + useless

    def write(self, file: Path, faults: Iterable[Fault]) -> None:
        """Write a header with the contracts that ran, one line per fault, and a footer."""
        faults = list(faults)
        rows = [
            {
                "kind": "row",
                "fault": fault.id,
                "story": fault.story,
                "evidence": fault.evidence,
                "bugs": list(fault.bugs),
                "caught_by": dict(sorted(self.caught[fault.id].items())),
                "passed": len(self.passed[fault.id]),
            }
            for fault in faults
        ]
        contracts = sorted(set().union(*self.passed.values(), *self.caught.values()))
        header = {"kind": "header", "schema_version": _SCHEMA_VERSION, **manifest(), "contracts": contracts}
        footer = {"kind": "footer", "rows": len(rows), "caught": sum(bool(row["caught_by"]) for row in rows)}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(record) + "\n" for record in (header, *rows, footer)), encoding="utf-8")
