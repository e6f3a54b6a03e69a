"""Get a subject by the name of its harness, or by the path of a harness's file; each may come with an interpreter."""

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
from suite.subjects.process.elsewhere import TIMEOUT
from suite.subjects.process.harness_files import foreign_names, harness_file, is_foreign, parse
from suite.subjects.process.remote import RemoteHarness, interpreter
from suite.subjects.protocol import Subject

T = TypeVar("T")

_FAULT = "fault:"
_REFERENCE = "reference"


def known_subjects() -> list[str]:
    """The names of the harnesses that come with the suite."""
    return [_REFERENCE, *foreign_names()]


def find_subject(asked_as: str, *, timeout: float = TIMEOUT) -> Subject:
    """The subject.

    Args:
      asked_as: the reference, a variant of it (``reference:bf16``), a fault of the museum (``fault:lora_b_random``), an
        harness of a foreign implementation (``openpi``), or the path of a harness (``./my_harness.py``). The last two
        take an interpreter to run in (``openpi=../openpi/.venv/bin/python``). Without it a foreign implementation
        runs in a process of its own, a harness that is a path runs in this one.
      timeout: seconds that an operation in another process may take.

    Raises:
      LookupError: there is no such harness; the message has the names that there are.
      UnavailableError: the interpreter does not start, or it lacks the implementation.
    """
    name, python = parse(asked_as)
    if name.endswith(".py"):
        name = str(harness_file(name))
    if python is None and not is_foreign(name):
        return Subject(find_harness(name), asked_as=name)
    _pick(name, dict.fromkeys([*known_subjects(), name] if name.endswith(".py") else known_subjects()))
    harness_file(name)
    asked_as = f"{name}={interpreter(python)}" if python else name
    return Subject(RemoteHarness(asked_as, timeout), asked_as=asked_as)


def find_harness(name: str) -> Any:
    """A harness that runs in this interpreter.

    Raises:
      LookupError: there is none of that name.
    """
    if name.endswith(".py"):
        return _import_file(harness_file(name))
    if ":" in name:
        return _pick(name, _patched_subjects())(name)
    _pick(name, dict.fromkeys(known_subjects()))
    return importlib.import_module(f"suite.subjects.{name}")


def is_fault(name: str) -> bool:
    """Whether a name is that of a fault of the museum: there are hundreds, so they are made when they are needed.

    Raises:
      LookupError: it is named like one, and there is no such fault.
    """
    if not name.startswith(_FAULT) or name.endswith(".py"):
        return False
    _pick(name, _patched_subjects())
    return True


def _patched_subjects() -> dict[str, Callable[[str], ModuleType]]:
    """What makes the harness of each variant of the reference and of each fault of the museum."""
    faults = importlib.import_module("suite.faults").all_faults().values()
    patches: dict[str, tuple[Sequence[Patch], frozenset[str]]]
    patches = {f"{_FAULT}{fault.id}": (fault.patches, frozenset()) for fault in faults}
    patches |= {f"reference:{name}": variant for name, variant in VARIANTS.items()}
    return {name: partial(patched_harness, patches=these, lacks=lacks) for name, (these, lacks) in patches.items()}


def _pick(name: str, known: Mapping[str, T]) -> T:
    """What has the name, or a LookupError with the closest one."""
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
    raise LookupError(f"no subject {name!r}; {hint} A harness of your own is given as a path: ./my_harness.py")


def _import_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"harness_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise LookupError(f"{file}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
