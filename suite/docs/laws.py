"""Every contract with its law and source, found by importing the files of contracts."""

import importlib
from functools import cache
from pathlib import Path

from suite.session.registry import Contract, contract_of

FOLDER = Path(__file__).parents[1] / "contracts"


@cache
def all_contracts() -> dict[str, Contract]:
    """Return every contract by its id, in the order of ids."""
    modules = [importlib.import_module(f"suite.contracts.{file.stem}") for file in FOLDER.glob("test_*.py")]
    functions = [function for module in modules for function in vars(module).values() if callable(function)]
    found = [contract for function in functions if (contract := contract_of(function))]
    return {contract.id: contract for contract in sorted(found, key=lambda contract: contract.id)}
