"""The reference with some lines changed, as another harness beside the unchanged one.

A patch replaces text. Every module that is patched, or that imports a patched module, is imported again; the others are
shared, with their classes, caches and compiled programs.
"""

import ast
import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

_REFERENCE = "pi0_compat"
_HARNESS = "suite.subjects.reference"
_ITS_PARTS = (
    "suite.subjects._reference_benchmarks",
    "suite.subjects._reference_fast",
    "suite.subjects._reference_flow",
    "suite.subjects._reference_policies",
    "suite.subjects._reference_planning",
)
_ROOT = Path(__file__).resolve().parents[3]
_SOURCES = _ROOT / "pi0_compat"


class Patch(NamedTuple):
    """Replaces ``old`` by ``new`` in a file of ``pi0_compat``, or in ``../suite/subjects/reference.py``.

    ``old`` occurs there exactly once.
    """

    file: str
    old: str
    new: str


def patched_harness(name: str, patches: Sequence[Patch], lacks: frozenset[str] = frozenset()) -> ModuleType:
    """Return a copy of the reference's harness, with a copy of everything it imports that the patches can change.

    Args:
      name: the copy's ``NAME``.
      patches: the patches to apply.
      lacks: traits that the copy does not declare.

    Raises:
      ValueError: the text that a patch replaces does not occur exactly once; the reference has changed.
    """
    sources = patched_sources(patches)
    harness = _import_again(dependents(sources), sources)
    harness.NAME = name  # type: ignore[attr-defined]
    harness.TRAITS = tuple(trait for trait in harness.TRAITS if trait not in lacks)  # type: ignore[attr-defined]
    return harness


def fresh_harness(sources: Mapping[Path, str] | None = None) -> ModuleType:
    """Import the reference's harness and all its modules again, from ``sources`` if given; nothing is cached."""
    return _import_again(set(_files()), sources or {})


def dependents(files: Collection[Path]) -> set[str]:
    """Return the modules of these files, all that import one of them, directly or not, and the harness."""
    modules = _files()
    imports = {name: _imports(file) for name, file in modules.items()}
    found = {name for name, file in modules.items() if file in files} | {_HARNESS}
    while more := {name for name in modules.keys() - found if imports[name] & found}:
        found |= more
    return found


def patched_sources(patches: Sequence[Patch]) -> dict[Path, str]:
    """Return the changed text of every patched file."""
    sources: dict[Path, str] = {}
    for patch in patches:
        file = (_SOURCES / patch.file).resolve()
        source = sources.get(file) or file.read_text(encoding="utf-8")
        if (count := source.count(patch.old)) != 1:
            raise ValueError(
                f"{patch.file}: a patch replaces text that is there {count} times, expected once:\n{patch.old}"
            )
        sources[file] = source.replace(patch.old, patch.new)
    return sources


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module of the reference from changed text if it has any, otherwise from its file."""

    def __init__(self, fullname: str, path: str, source: str | None) -> None:
        super().__init__(fullname, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType | None:
        if self._source is None:
            return super().get_code(fullname)
        code: CodeType = self.source_to_code(self._source.encode(), self.path)
        return code


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the given modules before other finders do."""

    def __init__(self, modules: Collection[str], sources: Mapping[Path, str]) -> None:
        self._modules, self._sources = modules, sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path) if fullname in self._modules else None
        if spec and spec.origin:
            spec.loader = _Loader(fullname, spec.origin, self._sources.get(Path(spec.origin).resolve()))
        return spec


# The files stay as they are while faults are created one after another: parsing them all takes a quarter of a second.
@cache
def _files() -> dict[str, Path]:
    """Return the file of every module of the reference, and of its harness."""
    files = {_module(file): file.resolve() for file in _SOURCES.rglob("*.py")}
    return files | {name: _ROOT / f"{name.replace('.', '/')}.py" for name in (_HARNESS, *_ITS_PARTS)}


def _module(file: Path) -> str:
    parts = [_REFERENCE, *file.relative_to(_SOURCES).with_suffix("").parts]
    return ".".join(parts).removesuffix(".__init__")


@cache
def _imports(file: Path) -> set[str]:
    """Return what a module imports; of ``from pi0_compat import module``, only the module."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    inner = {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
    return inner | {str(node.module) for node in froms if node.module != _REFERENCE}


def _import_again(modules: Collection[str], sources: Mapping[Path, str]) -> ModuleType:
    importlib.import_module(_HARNESS)
    with _set_aside(modules), _searched_first(_Finder(modules, sources)):
        return importlib.import_module(_HARNESS)


@contextmanager
def _searched_first(finder: importlib.abc.MetaPathFinder) -> Iterator[None]:
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def _set_aside(modules: Collection[str]) -> Iterator[None]:
    """Remove these modules as if they were never imported; restore them on leaving."""
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    _forget(modules)
    try:
        yield
    finally:
        _forget(modules)
        sys.modules.update(before)
        for name, module in before.items():
            package, _, attribute = name.rpartition(".")
            if package:
                setattr(sys.modules[package], attribute, module)


def _forget(modules: Collection[str]) -> None:
    """Remove modules from ``sys.modules`` and from their packages, where ``from package import module`` looks first."""
    packages = [(sys.modules.get(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in modules]
    for package, attribute in packages:
        if package is not None:
            vars(package).pop(attribute, None)
    for name in modules:
        sys.modules.pop(name, None)
