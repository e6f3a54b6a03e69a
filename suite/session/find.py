"""Find a subject by the name of its harness, or by the path of a harness's file, with or without an interpreter.

Another process finds a harness with ``find_harness``, so this module imports nothing that an environment with jax and
the implementation lacks.
"""

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from suite.subjects.patches.patched import Patch, patched_harness
from suite.subjects.patches.variants import VARIANTS
from suite.subjects.process.harness_files import foreign_names, harness_file, interpreter, is_foreign, is_path, parse
from suite.subjects.protocol import TIMEOUT, Subject

T = TypeVar("T")

# The module that finds a harness in another process of this project.
FINDER = __name__
_FAULT = "fault:"
_REFERENCE = "reference"


def known_subjects() -> list[str]:
    """Return the names of the harnesses that come with the suite."""
    return [_REFERENCE, *foreign_names()]


def find_subject(asked_as: str, *, timeout: float = TIMEOUT) -> Subject:
    """Return the subject of ``NAME[=PYTHON]``.

    Args:
      asked_as: the reference, a variant of it (``reference:bf16``), a fault of the museum (``fault:lora_b_random``), a
        foreign harness (``openpi``), or the path of a harness (``./my_harness.py``). The last two take an interpreter
        to run in (``openpi=../openpi/.venv/bin/python``). Without one, a foreign harness runs in a process of its own,
        and a harness that is a path runs in this process.
      timeout: seconds that one operation in another process may take.

    Raises:
      LookupError: there is no such harness; the message has the known names.
      UnavailableError: the interpreter does not start, or it lacks the implementation.
    """
    asked_as = resolve(asked_as)
    name, python = parse(asked_as)
    if python is None and not is_foreign(name):
        return Subject(find_harness(name), asked_as=name, finder=FINDER)
    from suite.subjects.process.remote import RemoteHarness

    return Subject(RemoteHarness(asked_as, timeout), asked_as=asked_as)


def resolve(asked_as: str) -> str:
    """Check ``NAME[=PYTHON]`` and return it with absolute paths; nothing is imported.

    Raises:
      LookupError: there is no such harness; the message has the known names.
      UnavailableError: there is no such interpreter.
    """
    name, python = parse(asked_as)
    if is_path(name):
        name = str(harness_file(name))
    elif python is None and ":" in name:
        _pick(name, _patched_subjects())
    else:
        _pick(name, dict.fromkeys(known_subjects()))
    if python is None:
        return name
    # Raises for a harness that takes no interpreter.
    harness_file(name)
    return f"{name}={interpreter(python)}"


def find_harness(name: str) -> Any:
    """Return a harness that runs in this interpreter.

    Raises:
      LookupError: there is none of that name.
    """
    if is_path(name):
        return _import_file(harness_file(name))
    if ":" in name:
        return _pick(name, _patched_subjects())(name)
    _pick(name, dict.fromkeys(known_subjects()))
    return importlib.import_module(f"suite.subjects.{name}")


def is_fault(name: str) -> bool:
    """Return whether a name is that of a fault of the museum. The faults, hundreds, are made when they are needed.

    Raises:
      LookupError: it is named like one, and there is no such fault.
    """
    if not name.startswith(_FAULT) or is_path(name):
        return False
    _pick(name, _patched_subjects())
    return True


def _patched_subjects() -> dict[str, Callable[[str], ModuleType]]:
    """Return a function for each variant of the reference and each fault of the museum that makes its harness."""
    from suite.faults import all_faults

    patches: dict[str, tuple[Sequence[Patch], frozenset[str]]]
    patches = {f"{_FAULT}{fault.id}": (fault.patches, frozenset()) for fault in all_faults().values()}
    patches |= {f"reference:{name}": variant for name, variant in VARIANTS.items()}
    return {name: partial(patched_harness, patches=these, lacks=lacks) for name, (these, lacks) in patches.items()}


def _pick(name: str, known: Mapping[str, T]) -> T:
    """Return the value of a name, or raise a LookupError with the closest known name."""
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}."
    raise LookupError(f"no subject {name!r}; {hint} A harness of your own is given as a path: ./my_harness.py")


def _import_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"harness_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise LookupError(f"{file}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
