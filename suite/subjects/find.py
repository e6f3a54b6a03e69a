"""Get a subject by the name of its adapter in this folder, or by the path of an adapter's file."""

import difflib
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from suite.subjects.protocol import Subject

_NOT_ADAPTERS = {"__init__", "find", "protocol", "remote"}


def known_subjects() -> list[str]:
    """The names of the adapters that come with the suite."""
    return sorted({file.stem for file in Path(__file__).parent.glob("*.py")} - _NOT_ADAPTERS)


def find_subject(name: str) -> Subject:
    """The subject.

    Args:
      name: an adapter of this folder (``reference``), or a path (``./my_adapter.py``).

    Raises:
      LookupError: there is no such adapter; the message has the names that there are.
    """
    if name.endswith(".py"):
        return Subject(_import_file(Path(name)))
    known = known_subjects()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
        raise LookupError(f"no subject {name!r}; {hint} An adapter of your own is given as a path: ./my_adapter.py")
    return Subject(importlib.import_module(f"suite.subjects.{name}"))


def _import_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise LookupError(f"{file}: no such adapter file")
    spec = importlib.util.spec_from_file_location(f"adapter_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise LookupError(f"{file}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
