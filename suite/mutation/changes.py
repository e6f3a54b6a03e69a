"""Which functions of the reference a fault changes, read from syntax trees.

Functions are outermost functions, named like ``pi0_compat/model/lora.py:LoRA.scale``; nested functions and lambdas
count as part of them. Code outside of functions (constants, class fields, defaults) defines names, and a change to it
changes every function that mentions such a name. Where names cannot be followed, every function counts as changed. So a
contract that enters no changed function behaves as before the patch.
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

# Names of functions; None means every function.
Functions = frozenset[str] | None


class Module(NamedTuple):
    """A module's source, split into functions and the rest.

    Attributes:
      functions: name -> syntax tree as text, and the names it mentions; a list, since a name may be defined repeatedly.
      frame: the statements outside of functions: the name each one defines (None: no single name), its syntax tree as
        text, and the names it mentions.
    """

    functions: dict[str, list[tuple[str, set[str]]]]
    frame: list[tuple[str | None, str, set[str]]]


def changed_functions(patches: Iterable[Patch]) -> Functions:
    """Return the functions of the unpatched reference that patches change."""
    functions: set[str] = set()
    names: set[str | None] = set()
    for file, source in patched_sources(list(patches)).items():
        changed, names_changed = difference(modules()[place(file)], parts(source))
        functions |= {f"{place(file)}:{name}" for name in changed}
        # Contracts look up the harness's top-level names themselves.
        names |= {None} if names_changed and file == _HARNESS else names_changed
    users = functions_mentioning(names, modules())
    return None if users is None else frozenset(functions | users)


def difference(before: Module, after: Module) -> tuple[set[str], set[str | None]]:
    """Return the functions of ``before`` that differ in ``after``, and the names whose value differs (None: any)."""
    functions = {name for name, text in before.functions.items() if text != after.functions.get(name)}
    names = {name for name, *_ in before.frame + after.frame}
    names = {name for name in names if _texts(before, {name}) != _texts(after, {name})}
    unchanged = {name for name, *_ in before.frame} - names
    reordered = _texts(before, unchanged) != _texts(after, unchanged)
    return functions, names | ({None} if reordered else set())


def functions_mentioning(names: set[str | None], everywhere: dict[str, Module]) -> Functions:
    """Return the functions that mention one of the names, directly or through the values of other names."""
    if not names:
        return frozenset()
    frames = [
        (None if file == place(_HARNESS) else name, used)
        for file, module in everywhere.items()
        for name, _, used in module.frame
    ]
    affected = set(names)
    while more := {name for name, used in frames if used & affected} - affected:
        affected |= more
    if None in affected:
        return None
    texts = (
        (f"{file}:{name}", used)
        for file, module in everywhere.items()
        for name, text in module.functions.items()
        for _, used in text
    )
    return frozenset(name for name, used in texts if used & affected)


@cache
def modules() -> dict[str, Module]:
    """Parse the modules of the reference and its harness, by path (see ``place``)."""
    return {place(file): parts(file.read_text(encoding="utf-8")) for file in files()}


def files() -> list[Path]:
    """Return the files of the reference and its harness."""
    return [*sorted((_ROOT / "pi0_compat").rglob("*.py")), _HARNESS]


def place(file: Path) -> str:
    """Return a file's path relative to the project root."""
    return file.relative_to(_ROOT).as_posix()


def functions_of(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield the outermost functions with qualified names; a property's getter and setter share one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _FUNCTION):
            yield prefix + child.name, child
        else:
            yield from functions_of(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix)


def parts(source: str) -> Module:
    """Split a module's source into functions and the rest."""
    tree = ast.parse(source)
    module = Module({}, [])
    for name, function in functions_of(tree):
        module.functions.setdefault(name, []).append((ast.dump(function), _mentions(function)))
        _empty(function)
    for statement in tree.body:
        module.frame.extend(_bindings(statement))
    return module


def _empty(function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    """Strip a function to what is evaluated at its definition: name, decorators and defaults."""
    function.body, function.returns = [], None
    for node in ast.walk(function.args):
        if isinstance(node, ast.arg):
            node.annotation = None


def _bindings(statement: ast.stmt) -> Iterator[tuple[str | None, str, set[str]]]:
    """Yield each name that a statement defines, with the statement's text and the names it mentions."""
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
    """Return the names that are read in a syntax tree, and the names of all attributes in it."""
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
    return names | {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def _texts(module: Module, names: set[str | None]) -> list[str]:
    """Return the text of the frame's statements that define one of the names, in order."""
    return [text for name, text, _ in module.frame if name in names]
