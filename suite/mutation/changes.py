"""Which functions of the reference a fault changes, read from syntax trees.

A function stands for all that is written in it, functions and lambdas included; one that is part of no other has a name
like ``pi0_compat/model/lora.py:LoRA.scale``. What is written outside of functions (a constant, a class's fields, a
default) is the value of a name, and changes every function that mentions the name. Where that is too hard to follow,
every function counts as changed. So what enters no changed function does what it did.
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from suite.subjects.patches.patched import Patch, patched_sources

_ROOT = Path(__file__).resolve().parents[2]
_HARNESS = _ROOT / "suite" / "subjects" / "reference.py"
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

# Functions by name; None for every function.
Functions = frozenset[str] | None


class Module(NamedTuple):
    """A module's text in parts.

    Attributes:
      functions: name -> their text, without what is evaluated when they are defined, and what they mention.
      frame: what is left, statement by statement: the name that it gives a value (None: no single name), the text,
        and what it mentions.
    """

    functions: dict[str, list[tuple[str, set[str]]]]
    frame: list[tuple[str | None, str, set[str]]]


def changed_functions(patches: Iterable[Patch]) -> Functions:
    """The functions of the unpatched reference that patches change."""
    functions: set[str] = set()
    names: set[str | None] = set()
    for file, source in patched_sources(list(patches)).items():
        of_file, of_frame = difference(modules()[place(file)], parts(source))
        functions |= {f"{place(file)}:{name}" for name in of_file}
        # What the harness has at its top is asked by contracts, by name.
        names |= {None} if of_frame and file == _HARNESS else of_frame
    users = mentioning(names, modules())
    return None if users is None else frozenset(functions | users)


def difference(before: Module, after: Module) -> tuple[set[str], set[str | None]]:
    """The functions of ``before`` that ``after`` has otherwise, and the names that have another value (None: any)."""
    functions = {name for name, text in before.functions.items() if text != after.functions.get(name)}
    names = {name for name, *_ in before.frame + after.frame}
    names = {name for name in names if _texts(before, {name}) != _texts(after, {name})}
    kept = {name for name, *_ in before.frame} - names
    in_another_order = _texts(before, kept) != _texts(after, kept)
    return functions, names | ({None} if in_another_order else set())


def mentioning(names: set[str | None], everywhere: dict[str, Module]) -> Functions:
    """The functions that mention one of the names, or a name whose value mentions one, and so on."""
    if not names:
        return frozenset()
    frames = [
        (None if file == place(_HARNESS) else name, used)
        for file, module in everywhere.items()
        for name, _, used in module.frame
    ]
    found = set(names)
    while more := {name for name, used in frames if used & found} - found:
        found |= more
    if None in found:
        return None
    texts = (
        (f"{file}:{name}", used)
        for file, module in everywhere.items()
        for name, text in module.functions.items()
        for _, used in text
    )
    return frozenset(name for name, used in texts if used & found)


@cache
def modules() -> dict[str, Module]:
    """The reference and its harness, by their place."""
    return {place(file): parts(file.read_text(encoding="utf-8")) for file in files()}


def files() -> list[Path]:
    """The files of the reference, and of its harness."""
    return [*sorted((_ROOT / "pi0_compat").rglob("*.py")), _HARNESS]


def place(file: Path) -> str:
    """A file's path below the project's folder."""
    return file.relative_to(_ROOT).as_posix()


def functions_of(node: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """The functions that are part of no other, with qualified names; a property's parts have the same."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _FUNCTION):
            yield inside + child.name, child
        else:
            yield from functions_of(child, f"{inside}{child.name}." if isinstance(child, ast.ClassDef) else inside)


def parts(source: str) -> Module:
    """A module's text, taken apart."""
    tree = ast.parse(source)
    module = Module({}, [])
    for name, function in functions_of(tree):
        module.functions.setdefault(name, []).append((ast.dump(function), _mentions(function)))
        _empty(function)
    for statement in tree.body:
        module.frame.extend(_bindings(statement))
    return module


def _empty(function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    """Leave of a function what counts when it is defined: its name, decorators and defaults."""
    function.body, function.returns = [], None
    for node in ast.walk(function.args):
        if isinstance(node, ast.arg):
            node.annotation = None


def _bindings(statement: ast.stmt) -> Iterator[tuple[str | None, str, set[str]]]:
    """The names that a statement gives a value, each with the text that it comes from and what that mentions."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        source = getattr(statement, "module", "")
        for alias in statement.names:
            yield alias.asname or alias.name, f"{source} {alias.name}", {alias.name.rpartition(".")[2]}
        return
    for name in _targets(statement):
        yield name, ast.dump(statement), _mentions(statement)


def _targets(statement: ast.stmt) -> list[str | None]:
    if isinstance(statement, (*_FUNCTION, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, ast.Assign) and all(isinstance(target, ast.Name) for target in statement.targets):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    return [None]


def _mentions(node: ast.AST) -> set[str]:
    """The names that a text reads, and all attributes in it."""
    names = {found.id for found in ast.walk(node) if isinstance(found, ast.Name) and isinstance(found.ctx, ast.Load)}
    return names | {found.attr for found in ast.walk(node) if isinstance(found, ast.Attribute)}


def _texts(module: Module, names: set[str | None]) -> list[str]:
    """The text of the frame that gives one of the names a value, in order."""
    return [text for name, text, _ in module.frame if name in names]
