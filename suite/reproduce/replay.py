"""Say recorded calls in Python: which of them matter, the files that they need, and one line for each."""

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.reproduce.errors import CannotReproduceError
from suite.reproduce.recording import PARAMETERS, Call, Place
from suite.reproduce.template import Template
from suite.reproduce.values import Arrays, View, same, view_equal_to
from suite.session.results import without_folders

INPUT = "input"


@dataclasses.dataclass(frozen=True)
class Replay:
    """The calls of a law as the lines of a script, with the files that those need.

    Args:
      calls: all calls of the law, in order.
      template: how the implementation is called.
      folder: where the script will be; files go into its folder ``input``.
    """

    calls: Sequence[Call]
    template: Template
    folder: Path
    _files: dict[str, str] = dataclasses.field(default_factory=dict)
    _constants: dict[str, str] = dataclasses.field(default_factory=dict)

    def needed(self, targets: Sequence[Call]) -> list[Call]:
        """Return the targets and the calls that made what they take, in order."""
        numbers: set[int] = set()
        waiting = list(targets)
        while waiting:
            call = waiting.pop()
            if call.number not in numbers:
                numbers.add(call.number)
                waiting += self._sources(call)
        return [call for call in self.calls if call.number in numbers]

    def line(self, call: Call, **changes: Any) -> str:
        """Return a call as an expression; ``changes`` replace arguments."""
        kind = kind_of(call)
        given = self._arguments(call) | {name: repr(value) for name, value in changes.items()}
        wanted = self.template.parameters(call.operation, kind)
        for name in given.keys() - set(wanted) - set(self.template.unused):
            if given[name] != "None":
                raise CannotReproduceError(
                    f"the template of {self.template.packages[0]} calls {call.operation} without {name}, which matters"
                )
        return f"{call.operation}({', '.join(f'{name}={given[name]}' for name in wanted if name in given)})"

    def stored(self, call: Call) -> str | None:
        """Return the expression for what the file of a load holds; None if the template cannot read it."""
        kind = kind_of(call)
        if not self.template.has("stored", kind):
            return None
        given = self._arguments(call)
        wanted = self.template.parameters("stored", kind)
        return f"stored({', '.join(f'{name}={given[name]}' for name in wanted)})"

    def view(self, view: View) -> str:
        """Return the expression for arrays that a call returned."""
        return f'{variable(view.call)}["{view.key}"]' if view.key else variable(view.call)

    def arrays(self, arrays: Arrays, name: str) -> str:
        """Save arrays beside the script and return the expression that reads them."""
        return self._constant(self._save(arrays, name), "dict(np.load({}))")

    def constants(self, body: str) -> list[str]:
        """Return the lines that define what the expressions in ``body`` refer to."""
        lines = [f"{name} = {value}" for name, value in self._constants.items() if re.search(rf"\b{name}\b", body)]
        work = ["WORK = Path(tempfile.mkdtemp())"] if "WORK" in body else []
        return ["HERE = Path(__file__).parent", *work, *lines]

    def _constant(self, file: str, value: str) -> str:
        """Return the name of a constant: what a file beside the script holds."""
        name = Path(file).stem.upper()
        self._constants[name] = value.format(f'(HERE / "{file}")' if value.startswith("json") else f'HERE / "{file}"')
        return name

    def _sources(self, call: Call) -> list[Call]:
        """Return the earlier calls that made a file or arrays that a call takes."""
        found = [maker for place in call.places.values() if (maker := self._maker(call, place))]
        given = [value for value in call.arguments.values() if is_arrays(value)]
        views = (view_equal_to(value, self.calls[: call.number]) for value in given)
        return [*found, *(view.call for view in views if view)]

    def _maker(self, call: Call, place: Place) -> Call | None:
        """Return the earlier call that left a file or folder as a call found it; None for an input of the law."""
        for other in reversed(self.calls[: call.number]):
            made = other.places.get(place.path)
            if place.before and made and made.after == place.before != made.before:
                return other
        return None

    def _arguments(self, call: Call) -> dict[str, str]:
        """Return every argument as an expression."""
        given: dict[str, str] = {}
        for name in PARAMETERS[call.operation]:
            if name in call.arguments:
                value = call.arguments[name]
                if name == "source":
                    given |= {key: self._argument(call, key, text) for key, text in value.items() if key != "kind"}
                else:
                    given[name] = self._argument(call, name, value)
        return given

    def _argument(self, call: Call, name: str, value: Any) -> str:
        if isinstance(value, str) and value in call.places:
            return self._path(call, call.places[value])
        if name == "model":
            return self._constant(self._save_json(self.template.config(value), "model"), "json.loads({}.read_text())")
        if is_arrays(value):
            if view := view_equal_to(value, self.calls[: call.number]):
                return self.view(view)
            return self.arrays(self._native(call, name, value), name)
        if isinstance(value, list) and value and all(is_arrays(each) for each in value):
            return f"[{', '.join(self._argument(call, 'batch', each) for each in value)}]"
        if isinstance(value, np.ndarray):
            return self._array(call, name, value)
        if isinstance(value, dict):
            return self._constant(self._save_json(value, name), "json.loads({}.read_text())")
        return repr(value)

    def _native(self, call: Call, name: str, value: Arrays) -> Arrays:
        return self.template.native(call.arguments["model"], value) if name in ("params", "base", "lora") else value

    def _array(self, call: Call, name: str, value: Any) -> str:
        """Return the expression for one array: part of the batch, as laws pass noise and time, or a file."""
        for other, arrays in call.arguments.items():
            if is_arrays(arrays) and name in arrays and same(arrays[name], value):
                return f'{self._argument(call, other, arrays)}["{name}"]'
        return f'{self.arrays({name: value}, name)}["{name}"]'

    def _path(self, call: Call, place: Place) -> str:
        name = Path(place.path).name
        if place.copy is None or self._maker(call, place):
            return f'WORK / "{name}"'
        return f'HERE / "{self._keep(place.copy, name, place.before)}"'

    def _keep(self, copy: Path, name: str, content: str) -> str:
        """Copy a file or folder into the inputs, once, and return its path from the script."""
        target = self._name(name, content)
        if not (self.folder / target).exists():
            (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
            if copy.is_dir():
                shutil.copytree(copy, self.folder / target)
            else:
                shutil.copy(copy, self.folder / target)
            for mark in (self.folder / target).rglob("commit_success.txt"):
                # orbax writes there where the checkpoint was.
                mark.write_text(without_folders(mark.read_text(encoding="utf-8")), encoding="utf-8")
        return target

    def _save(self, arrays: Arrays, name: str) -> str:
        content = {key: np.asarray(array) for key, array in arrays.items()}
        key = repr(sorted((path, x.dtype.name, x.shape, x.tobytes()) for path, x in content.items()))
        target = self._name(f"{name}.npz", key)
        (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(self.folder / target, **content)  # type: ignore[arg-type]
        return target

    def _save_json(self, value: Any, name: str) -> str:
        text = json.dumps(value, indent=1)
        target = self._name(f"{name}.json", text)
        (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / target).write_text(f"{text}\n", encoding="utf-8")
        return target

    def _name(self, name: str, content: str) -> str:
        """Return the path of an input, the same for equal content; a number keeps others of its name apart."""
        stem, dot, end = name.partition(".")
        number = 1
        while self._files.get(target := f"{INPUT}/{stem}{'' if number == 1 else f'_{number}'}{dot}{end}") not in (
            None,
            content,
        ):
            number += 1
        self._files[target] = content
        return target


def variable(call: Call) -> str:
    """Return the name of a call's result."""
    return f"{call.operation}_{call.number}"


def kind_of(call: Call) -> str:
    """Return the kind of source that a call loads from; "" for other calls."""
    source: Mapping[str, str] = call.arguments.get("source", {})
    return source.get("kind", "")


def is_arrays(value: Any) -> bool:
    """Return whether a value is a dict of arrays."""
    return isinstance(value, dict) and bool(value) and all(isinstance(each, np.ndarray) for each in value.values())
