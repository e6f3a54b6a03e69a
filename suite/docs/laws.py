"""Every contract with its law and source, found by importing the files of contracts."""

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from suite.session.registry import Contract, contract_of
from suite.writing.layouts import cells

FOLDER = Path(__file__).parents[1] / "contracts"


@cache
def all_contracts() -> dict[str, Contract]:
    """Return every contract by its id, in the order of ids."""
    found = [contract for function in _functions() if (contract := contract_of(function))]
    return {contract.id: contract for contract in sorted(found, key=lambda contract: contract.id)}


def laws_over_layouts() -> dict[str, dict[str, int | str]]:
    """Return the cells of every law that is asked of each layout: number of cases, or why there are none."""
    found = {
        contract.id: of_law
        for function in _functions()
        if (contract := contract_of(function)) and (of_law := cells(function)) is not None
    }
    return dict(sorted(found.items()))


def _functions() -> list[Callable[..., object]]:
    modules = [importlib.import_module(f"suite.contracts.{file.stem}") for file in FOLDER.glob("test_*.py")]
    return [function for module in modules for function in vars(module).values() if callable(function)]
