"""The reference with some of its lines changed, as a harness of its own beside the unchanged one.

A patch is text: what a line is, and what it is instead. Every module that is patched, or that depends on one that is,
is imported again; the others are shared, with their classes, caches and compiled programs.
"""

import ast
import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

_REFERENCE = "pi0_compat"
_HARNESS = "suite.subjects.reference"
_ITS_BENCHMARKS = "suite.subjects._reference_benchmarks"
_ROOT = Path(__file__).resolve().parents[3]
_SOURCES = _ROOT / "pi0_compat"


class Patch(NamedTuple):
    """In a file of ``pi0_compat`` (or ``../subjects/reference.py``), ``old``, which is there once, is ``new``."""

    file: str
    old: str
    new: str


def patched_harness(name: str, patches: Sequence[Patch], lacks: frozenset[str] = frozenset()) -> ModuleType:
    """A copy of the reference's harness, and of all that the patches can change in what it imports.

    Args:
      name: the harness's name.
      patches: all of them are applied.
      lacks: traits that it no longer declares.

    Raises:
      ValueError: the text that a patch replaces is not there, or more than once; the reference has moved on.
    """
    sources = patched_sources(patches)
    harness = _import_again(dependents(sources), sources)
    harness.NAME = name  # type: ignore[attr-defined]
    harness.TRAITS = tuple(trait for trait in harness.TRAITS if trait not in lacks)  # type: ignore[attr-defined]
    return harness


def fresh_harness(sources: Mapping[Path, str] | None = None) -> ModuleType:
    """The reference's harness, all modules imported again, from other ``sources`` if given: nothing is cached."""
    return _import_again(set(_files()), sources or {})


def dependents(files: Collection[Path]) -> set[str]:
    """The modules of these files and all that import one of them, themselves or through others; the harness always."""
    modules = _files()
    imports = {name: _imports(file) for name, file in modules.items()}
    found = {name for name, file in modules.items() if file in files} | {_HARNESS}
    while more := {name for name in modules.keys() - found if imports[name] & found}:
        found |= more
    return found


def patched_sources(patches: Sequence[Patch]) -> dict[Path, str]:
    """The changed text of every patched file."""
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
    """Loads a module of the reference from changed text; without, from its file."""

    def __init__(self, fullname: str, path: str, source: str | None) -> None:
        super().__init__(fullname, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType | None:
        if self._source is None:
            return super().get_code(fullname)
        code: CodeType = self.source_to_code(self._source.encode(), self.path)
        return code


class _Finder(importlib.abc.MetaPathFinder):
    """Finds these modules first."""

    def __init__(self, modules: Collection[str], sources: Mapping[Path, str]) -> None:
        self._modules, self._sources = modules, sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path) if fullname in self._modules else None
        if spec and spec.origin:
            spec.loader = _Loader(fullname, spec.origin, self._sources.get(Path(spec.origin).resolve()))
        return spec


def _files() -> dict[str, Path]:
    """The file of every module of the reference, and of its harness."""
    files = {_module(file): file.resolve() for file in _SOURCES.rglob("*.py")}
    return files | {name: _ROOT / f"{name.replace('.', '/')}.py" for name in (_HARNESS, _ITS_BENCHMARKS)}


def _module(file: Path) -> str:
    parts = [_REFERENCE, *file.relative_to(_SOURCES).with_suffix("").parts]
    return ".".join(parts).removesuffix(".__init__")


def _imports(file: Path) -> set[str]:
    """What a module imports; ``from package import module`` asks nothing of the package but the module."""
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
    """Make these modules look as if they were never imported, and put them back on leaving."""
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
