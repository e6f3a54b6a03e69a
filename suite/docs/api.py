"""``docs/api.md``: the public names of ``pi0_compat`` with their signatures and docstrings, as the source has them."""

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_INTRODUCTION = """\
# API

<!-- Written by `python -m suite.docs` from the docstrings of pi0_compat. Edit those. -->

Everything that `import pi0_compat` offers. What is not on this page may change without notice. The guides show these
names at work: [Quickstart](quickstart.md), [Load weights](loading.md), [LoRA](lora.md), [Convert](convert.md).

*Parameters* are a flat dictionary from slash paths, with openpi's names, to arrays. Nested dictionaries
are accepted too.
"""
# The folder of a name's module -> the heading that it is under, in the order of the page.
_HEADINGS = {
    "checkpoints": "Whole checkpoints",
    "layouts": "Read and write parameters",
    "loading": "Weight loaders",
    "lora": "LoRA",
    "model": "Model",
    "planning": "Planning",
    "training": "Training",
}
_OTHERS = "Errors"
_RESULTS = """\
## Results

What functions return, and what that holds. Import these from their modules, to annotate.
"""
_PACKAGE = "pi0_compat"
_WIDTH = 100
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$")
_ENTRY = re.compile(r"^  (\w[\w*`., ]*?): (.*)$")


def page() -> str:
    """Return the text of ``docs/api.md``."""
    package = importlib.import_module(_PACKAGE)
    names = sorted(package.__all__, key=lambda name: (name.lower(), name))
    placed = {name: _heading(getattr(package, name)) for name in names}
    parts = [_INTRODUCTION]
    for heading in (*_HEADINGS.values(), _OTHERS):
        if found := [name for name in names if placed[name] == heading]:
            parts += [f"## {heading}\n", *(entry(name, getattr(package, name)) for name in found)]
    results = returned([getattr(package, name) for name in names])
    parts += [_RESULTS, *(entry(name, results[name]) for name in sorted(results))]
    return "\n".join(parts)


def returned(values: Iterable[Any]) -> dict[str, type]:
    """Return the classes of this project that functions return, and that fields of those hold, by their names.

    Args:
      values: functions and classes; what is among them is no result.
    """
    public, found = list(values), dict[str, type]()
    functions = [value for value in public if inspect.isfunction(value)]
    new = [each for value in functions for each in _classes(value, _function_result(value))]
    while new:
        each = new.pop()
        if each.__name__ not in found and each not in public:
            found[each.__name__] = each
            new += [other for field in _fields(_node(each)) for other in _classes(each, ast.unparse(field.annotation))]
    return found


def _function_result(value: Any) -> str:
    node = _node(value)
    return ast.unparse(node.returns) if isinstance(node, ast.FunctionDef) and node.returns else ""


def _classes(value: Any, annotation: str) -> Iterator[type]:
    """The classes of this project that an annotation of a function or class names."""
    names = vars(sys.modules[value.__module__])
    for name in re.findall(r"\b[A-Z]\w+", annotation):
        if inspect.isclass(each := names.get(name)) and each.__module__.partition(".")[0] == _PACKAGE:
            yield each


def entry(name: str, value: Any) -> str:
    """Return the section of a name.

    Args:
      name: what a user imports.
      value: a function or a class; another value has its docstring's type only.
    """
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        return f"### {name}\n\nA namespace or constant: `{type(value).__name__}`.\n"
    node = _node(value)
    signature = _function(node) if isinstance(node, ast.FunctionDef) else _class(node)
    lines = [f"### {name}\n", f"```python\n{signature}\n```\n", *_text(inspect.getdoc(value) or "")]
    if isinstance(node, ast.ClassDef):
        lines += [line for method in _methods(node) for line in _method(method)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _heading(value: Any) -> str:
    folders = str(getattr(value, "__module__", "")).split(".")
    return _HEADINGS.get(folders[1] if len(folders) > 1 else "", _OTHERS)


def _node(value: Any) -> ast.FunctionDef | ast.ClassDef:
    node = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    return node


def _function(node: ast.FunctionDef) -> str:
    """The signature as written, on several lines if it is long."""
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    parameters = list(_parameters(node.args))
    line = f"{node.name}({', '.join(parameters)}){result}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{node.name}(", *(f"    {each}," for each in parameters), f"){result}"])


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    """Each parameter as it is declared; `self` is none."""
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    for number, each in enumerate(positional):
        if each.arg != "self":
            yield _parameter(each, arguments.defaults[number - required] if number >= required else None)
        if number + 1 == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg:
        yield f"*{ast.unparse(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    yield from map(_parameter, arguments.kwonlyargs, arguments.kw_defaults)
    if arguments.kwarg:
        yield f"**{ast.unparse(arguments.kwarg)}"


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return ast.unparse(argument)
    return f"{ast.unparse(argument)}{' = ' if argument.annotation else '='}{ast.unparse(default)}"


def _class(node: ast.ClassDef) -> str:
    """The class with its bases, and the fields of a dataclass or the members of an enum."""
    bases = ", ".join(map(ast.unparse, node.bases))
    fields = map(ast.unparse, [*_fields(node), *_members(node)])
    return "\n".join([f"class {node.name}{f'({bases})' if bases else ''}", *(f"    {field}" for field in fields)])


def _members(node: ast.ClassDef) -> list[ast.Assign]:
    """The members of an enum."""
    assigned = (each for each in node.body if isinstance(each, ast.Assign))
    return [each for each in assigned if ast.unparse(each.targets[0]).isupper()]


def _methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    return (each for each in node.body if isinstance(each, ast.FunctionDef) and not each.name.startswith("_"))


def _fields(node: ast.AST) -> list[ast.AnnAssign]:
    """The public fields of a dataclass or a named tuple."""
    body = node.body if isinstance(node, ast.ClassDef) else []
    return [each for each in body if isinstance(each, ast.AnnAssign) and not ast.unparse(each.target).startswith("_")]


def _method(node: ast.FunctionDef) -> list[str]:
    is_property = any(ast.unparse(mark).endswith("property") for mark in node.decorator_list)
    title = node.name if is_property else f"{node.name}()"
    signature = [] if is_property else [f"```python\n{_function(node)}\n```\n"]
    return [f"**{title}**\n", *signature, *_text(ast.get_docstring(node) or "")]


def _text(docstring: str) -> Iterator[str]:
    """A docstring as Markdown: its sections are lists."""
    for block in docstring.split("\n\n"):
        title, *lines = block.split("\n")
        if found := _SECTION.match(title):
            yield f"*{found[1]}*\n"
            yield "\n".join(_items(lines)) + "\n"
        else:
            yield f"{_plain(block)}\n"


def _items(lines: Sequence[str]) -> list[str]:
    """A bullet for each entry of a section; further lines of an entry belong to it."""
    items: list[str] = []
    for line in lines:
        if found := _ENTRY.match(line):
            items.append(f"* `{found[1].replace('`', '')}`: {_plain(found[2])}")
        elif items and line.startswith("    "):
            items[-1] += f" {_plain(line.strip())}"
        else:
            items.append(f"* {_plain(line.strip())}")
    return items


def _plain(text: str) -> str:
    """A docstring's text, whose code is between double backticks, as Markdown."""
    parts = re.split(r"(``.+?``)", text)
    return "".join(f"`{part.strip('`')}`" if part.startswith("``") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    return re.sub(r"[*<>\[\]]|(?<![^\W_])_|_(?![^\W_])", lambda found: f"\\{found[0]}", text)
