"""Every contract follows the rules for contracts in CONTRIBUTING. Their source is read, not run."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from suite.session.registry import Contract, contract_of
from suite.subjects.capabilities import CAPABILITIES, OPERATIONS

FOLDER = Path(__file__).parents[2] / "suite" / "contracts"
MAX_LINES = 25
# A law is a fact; these words turn it into a wish, a plan or a description of its test.
NOT_A_FACT = re.compile(r"\b(should|shall|must|will|test that|tests that|check that)\b", re.IGNORECASE)
UNEQUAL = {"subject", "platform"}


def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of every file of contracts."""
    return {file.stem: ast.parse(file.read_text()) for file in sorted(FOLDER.glob("test_*.py"))}


def contracts() -> list[Contract]:
    """Return every contract that the files define."""
    imported = (importlib.import_module(f"suite.contracts.{name}") for name in modules())
    functions = [function for module in imported for function in vars(module).values()]
    return [c for function in functions if callable(function) and (c := contract_of(function))]


def violations(tree: ast.Module) -> Iterator[str]:
    """Yield what a file of contracts does that contracts must not do."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        if not function.name.startswith("test_"):
            continue
        if function not in tree.body:
            yield f"{function.name} is not at module level"
        if not any("contract(" in ast.unparse(mark) for mark in function.decorator_list):
            yield f"{function.name} is no contract"
        if (length := (function.end_lineno or 0) - function.lineno + 1) > MAX_LINES:
            yield f"{function.name} has {length} lines"
        yield from (f"{function.name} {evasion}" for evasion in _evasions(function))


def _evasions(function: ast.FunctionDef) -> Iterator[str]:
    """Yield the ways in which a contract could treat one subject differently from another."""
    for node in ast.walk(function):
        if any("skip" in name or "xfail" in name for name in _names(node, deep=False)):
            yield "skips"
        if isinstance(node, ast.If | ast.IfExp | ast.Match):
            condition = node.subject if isinstance(node, ast.Match) else node.test
            yield from (f"branches on {name}" for name in _names(condition) & UNEQUAL)


def _names(node: ast.AST, *, deep: bool = True) -> set[str]:
    nodes = ast.walk(node) if deep else [node]
    return {getattr(n, "id", getattr(n, "attr", "")) for n in nodes}


def test_ids_are_unique() -> None:
    """No two contracts have the same id, and every test function of a file has one."""
    ids = [contract.id for contract in contracts()]
    named = [
        f"{name.removeprefix('test_')}.{node.name.removeprefix('test_')}"
        for name, tree in modules().items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert len(set(ids)) == len(ids)
    assert sorted(ids) == sorted(named)


def test_every_contract_has_a_source() -> None:
    """Every contract says where it comes from."""
    assert [contract.id for contract in contracts() if not contract.source.strip()] == []


def operations(tree: ast.Module, function: ast.FunctionDef) -> set[str]:
    """Return the operations that a contract calls, itself or by a function of its file."""
    called = _names_in(function)
    others = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in called]
    return OPERATIONS.keys() & set().union(*(_attributes(node) for node in (function, *others)))


def _names_in(function: ast.FunctionDef) -> set[str]:
    return {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}


def _attributes(function: ast.FunctionDef) -> set[str]:
    """Return the names after the dot of a subject, here or in another process."""
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.Attribute)]
    return {
        node.attr for node in nodes if ast.unparse(node.value) in ("subject", "process", "one_device", "eight_devices")
    }


def test_every_operation_is_needed() -> None:
    """A contract needs every operation that it calls, so that a subject without one of them does not run it."""
    needs = {contract.id: contract.needs for contract in contracts()}
    undeclared = {
        _id(name, function): missing
        for name, tree in modules().items()
        for function in tree.body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
        if (missing := operations(tree, function) - set(needs[_id(name, function)]))
    }
    assert undeclared == {}


def _id(module: str, function: ast.FunctionDef) -> str:
    return f"{module.removeprefix('test_')}.{function.name.removeprefix('test_')}"


def test_every_need_is_known() -> None:
    """Contracts need capabilities only, each named once."""
    for contract in contracts():
        assert set(contract.needs) <= set(CAPABILITIES), contract.id
        assert len(set(contract.needs)) == len(contract.needs), contract.id


def test_every_law_is_a_fact() -> None:
    """A law is one or two sentences that state a fact."""
    for contract in contracts():
        assert contract.law.endswith("."), contract.id
        assert contract.law[0] == contract.law[0].upper() or contract.law[0] == "o", contract.id
        assert 1 <= len(re.split(r"[.!?] (?=[A-Z])", contract.law)) <= 2, contract.id
        assert not NOT_A_FACT.search(contract.law), contract.id


def test_contracts_treat_every_subject_the_same() -> None:
    """Contracts are short functions of their module that skip nothing and branch on no subject or platform."""
    broken = [f"{name}: {violation}" for name, tree in modules().items() for violation in violations(tree)]
    assert broken == []


def test_violations_are_found() -> None:
    """The rules above find each of the ways to break them."""
    source = "\n".join([
        "class TestInit:",
        "    @contract(source='x', needs=())",
        "    def test_method(self, subject): ...",
        "def test_bare(subject):",
        "    if subject.name == 'openpi': pytest.skip()",
        "    x = 1 if sys.platform == 'win32' else 2",
        "@contract(source='x', needs=())",
        "@pytest.mark.skipif(True)",
        "def test_long(subject):",
        "    pass\n" * MAX_LINES,
    ])  # fmt: skip
    assert sorted(violations(ast.parse(source))) == [
        "test_bare branches on platform",
        "test_bare branches on subject",
        "test_bare is no contract",
        "test_bare skips",
        "test_long has 26 lines",
        "test_long skips",
        "test_method is not at module level",
    ]
