"""Get a subject by the name of its adapter in this folder, or by the path of an adapter's file."""

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from suite.subjects.patched import Patch, patched_adapter
from suite.subjects.protocol import Subject
from suite.subjects.variants import VARIANTS

T = TypeVar("T")

_FAULT = "fault:"
_NOT_ADAPTERS = {"__init__", "elsewhere", "find", "patched", "protocol", "variants", "wire", "worker"}


def known_subjects() -> list[str]:
    """The names of the adapters that come with the suite."""
    return sorted({file.stem for file in Path(__file__).parent.glob("*.py")} - _NOT_ADAPTERS)


def find_subject(name: str) -> Subject:
    """The subject.

    Args:
      name: an adapter of this folder (``reference``), a variant of the reference (``reference:bf16``), a fault of the
        museum (``fault:lora_b_random``), or a path (``./my_adapter.py``).

    Raises:
      LookupError: there is no such adapter; the message has the names that there are.
    """
    if name.endswith(".py"):
        file = Path(name).absolute()
        return Subject(_import_file(file), asked_as=str(file))
    if ":" in name:
        return Subject(_pick(name, _patched_subjects())(name), asked_as=name)
    known = known_subjects()
    _pick(name, dict.fromkeys(known))
    return Subject(importlib.import_module(f"suite.subjects.{name}"), asked_as=name)


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
    """What makes the adapter of each variant of the reference and of each fault of the museum."""
    faults = importlib.import_module("suite.faults").all_faults().values()
    patches: dict[str, tuple[Sequence[Patch], frozenset[str]]]
    patches = {f"{_FAULT}{fault.id}": (fault.patches, frozenset()) for fault in faults}
    patches |= {f"reference:{name}": variant for name, variant in VARIANTS.items()}
    return {name: partial(patched_adapter, patches=these, lacks=lacks) for name, (these, lacks) in patches.items()}


def _pick(name: str, known: Mapping[str, T]) -> T:
    """What has the name, or a LookupError with the closest one."""
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
    raise LookupError(f"no subject {name!r}; {hint} An adapter of your own is given as a path: ./my_adapter.py")


def _import_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise LookupError(f"{file}: no such adapter file")
    spec = importlib.util.spec_from_file_location(f"adapter_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise LookupError(f"{file}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
