"""Keep what a script uses: the imports, constants and functions of a template that its calls need."""

import ast
import re


def used_part(setup: str, rest: str) -> str:
    """Return the statements of ``setup`` whose names occur in ``rest``, or in others that are kept.

    Args:
      setup: Python source of imports, assignments and functions.
      rest: the source that follows it.
    """
    lines, nodes = setup.split("\n"), ast.parse(setup).body
    texts = {node: "\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in nodes}
    kept = set(nodes)
    while unused := {node for node in kept if not _is_used(node, kept, texts, rest)}:
        kept -= unused
    return "\n".join(_text(node, texts[node], _others(node, kept, texts, rest)) for node in nodes if node in kept)


def _is_used(node: ast.stmt, kept: set[ast.stmt], texts: dict[ast.stmt, str], rest: str) -> bool:
    others = _others(node, kept, texts, rest)
    return any(_occurs(name, others) for name in _names(node))


def _others(node: ast.stmt, kept: set[ast.stmt], texts: dict[ast.stmt, str], rest: str) -> str:
    imports = (ast.Import, ast.ImportFrom)
    return "\n".join([*(texts[other] for other in kept if other is not node and not isinstance(other, imports)), rest])


def _names(node: ast.stmt) -> list[str]:
    """Return the names that a statement makes; of one that makes none, a name that is always there."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    raise ValueError(f"a template's setup has imports, assignments and functions, not {ast.unparse(node)}")


def _text(node: ast.stmt, text: str, others: str) -> str:
    """Return a statement; of an import only the names that are used."""
    if not isinstance(node, ast.ImportFrom):
        # One empty line around a function, as every line counts.
        return f"\n{text}\n" if isinstance(node, ast.FunctionDef) else text
    names = [alias for alias in node.names if _occurs(alias.asname or alias.name, others)]
    return ast.unparse(ast.ImportFrom(node.module, names, node.level))


def _occurs(name: str, text: str) -> bool:
    return bool(re.search(rf"(?<![\w.\"]){name}\b", text))
