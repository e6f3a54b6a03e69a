"""Find harnesses by name or path, and say how another process gets one."""

import ast
import functools
import shutil
from pathlib import Path
from typing import NamedTuple

from suite.subjects.protocol import UnavailableError

FOREIGN = Path(__file__).parents[1] / "foreign"
# The package that modules are in which are sent; no package of this name is installed anywhere.
PACKAGE = "pi0_compat_sent"


class Located(NamedTuple):
    """How another process gets a harness.

    Attributes:
      module: the module to import there.
      name: the name to ask the module's ``find_harness`` for; None if the module is the harness, and is sent.
      sources: the text of the modules to send, by full name.
    """

    module: str
    name: str | None
    sources: dict[str, str]


def foreign_names() -> list[str]:
    """Return the names that the foreign harnesses declare."""
    return sorted(_foreign_files())


@functools.cache
def _foreign_files() -> dict[str, Path]:
    return {_declared_name(file): file for file in FOREIGN.glob("[!_]*.py")}


def parse(asked_as: str) -> tuple[str, str | None]:
    """Split ``NAME[=PYTHON]``."""
    name, _, python = asked_as.partition("=")
    return name, python or None


def is_path(name: str) -> bool:
    """Return whether a harness is given as the path of its file."""
    return name.endswith(".py")


def is_foreign(name: str) -> bool:
    """Return whether a name is that of a foreign harness, which runs in a process of its own."""
    return name in foreign_names()


def harness_file(name: str) -> Path:
    """Return the file of a foreign harness, or of one given as a path.

    Raises:
      LookupError: there is none, or it is a harness that needs this project around it.
    """
    if is_path(name):
        file = Path(name).absolute()
        if not file.is_file():
            raise LookupError(f"{file}: no such harness file")
        return file
    if not is_foreign(name):
        raise LookupError(f"{name} runs in the suite's own interpreter; another one is only for {foreign_names()}")
    return _foreign_files()[name]


def interpreter(python: str) -> str:
    """Return the absolute path of an interpreter. A link is not followed: a virtual environment's interpreter is one.

    Raises:
      UnavailableError: there is no such program.
    """
    program = shutil.which(Path(python).expanduser())
    if program is None:
        raise UnavailableError(f"{python}: no such interpreter")
    return str(Path(program).absolute())


def name_of(asked_as: str) -> str:
    """Return the subject's name: a name as it is, of a path the ``NAME`` that the file declares."""
    name, _ = parse(asked_as)
    if not is_path(name):
        return name
    return _declared_name(harness_file(name))


def _declared_name(file: Path) -> str:
    """Return the ``NAME`` that a harness's file declares; without one, the file's."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(x, ast.Name) and x.id == "NAME" for x in node.targets):
            return str(ast.literal_eval(node.value))
    return file.stem


def locate(asked_as: str, finder: str | None = None) -> Located:
    """Return how another process gets a harness.

    A foreign harness is sent, and so is one given as a path with an interpreter. Any other is imported from
    this project, through ``finder``.

    Args:
      asked_as: ``NAME[=PYTHON]``; the name may be a path.
      finder: a module of this project with a function ``find_harness(name)``.
    """
    name, python = parse(asked_as)
    if is_foreign(name) or (python and is_path(name)):
        module, sources = sources_of(harness_file(name))
        return Located(module, None, sources)
    if finder is None:
        raise ValueError(f"{name} is imported from this project, but no module that finds it was given")
    return Located(finder, name, {})


def sources_of(file: Path) -> tuple[str, dict[str, str]]:
    """Return the name that a harness's module has over there, and the text of all modules to send for it.

    A foreign harness brings its siblings along, that of another checkout too; one of a user comes alone.
    """
    module, *_ = files = _sent(file)
    return module, {name: part.read_text(encoding="utf-8") for name, part in files.items()}


def files_of(asked_as: str) -> dict[str, Path]:
    """Return the files of the modules that are sent for a harness, by full name; none if it is imported."""
    name, python = parse(asked_as)
    return _sent(harness_file(name)) if is_foreign(name) or (python and is_path(name)) else {}


def _sent(file: Path) -> dict[str, Path]:
    """Return the modules to send for a harness, its own first, by full name."""
    files = {f"{PACKAGE}.harnesses.{file.stem if file.stem.isidentifier() else 'harness'}": file}
    if file.parent.parts[-3:] == FOREIGN.parts[-3:]:
        siblings = [part for part in file.parent.glob("*.py") if part.stem != "__init__"]
        files |= {f"{PACKAGE}.harnesses.{part.stem}": part for part in siblings}
    return files
