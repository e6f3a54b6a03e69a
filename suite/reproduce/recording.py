"""Record what a law asks of a subject: every call with its arguments, the files that it was given, and its result."""

import copy
import dataclasses
import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fixtures.writers import safetensors_file
from suite.subjects.capabilities import OPERATIONS
from suite.subjects.protocol import Subject

# The parameters of each operation, as suite/subjects/protocol.py states them.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "param_spec": ("model",),
    "init": ("model", "seed"),
    "restore": ("path", "dtype"),
    "load": ("model", "source", "seed"),
    "load_for_inference": ("model", "path"),
    "save": ("model", "params", "path"),
    "download": ("url", "cache"),
    "loss": ("model", "params", "batch", "noise", "time", "seed"),
    "sample_actions": ("model", "params", "batch", "noise", "num_steps"),
    "embed_prefix": ("model", "params", "batch"),
    "trainable": ("model",),
    "begin": ("model", "source", "options"),
    "train": ("model", "params", "batches", "options", "folder"),
    "resume": ("model", "batches", "options", "folder", "step"),
    "restore_limited": ("path", "limits"),
    "prompt_logits": ("model", "params", "tokens", "mask"),
    "restore_sharded": ("path", "shard_above"),
    "join": ("coordinator", "num_processes", "process_id"),
    "fold": ("model", "params"),
    "fold_checkpoint": ("model", "path", "out", "dtype"),
    "convert": ("model", "path", "layout", "out"),
    "fold_losses": ("model", "params"),
    "unfold": ("model", "params"),
    "extract": ("model", "params"),
    "merge": ("model", "base", "lora"),
}


@dataclasses.dataclass
class Place:
    """A file or folder that a call was given.

    Attributes:
      path: where it was.
      copy: its content before the call; None if it did not exist, so the call makes it.
      before: digest of its content before the call; "" if it did not exist.
      after: digest of its content after the call.
    """

    path: str
    copy: Path | None
    before: str
    after: str = ""


@dataclasses.dataclass
class Call:
    """A call of an operation.

    Attributes:
      number: its position among the calls of the law.
      operation: the operation.
      arguments: its arguments by name, as they were before the call.
      places: the files and folders among the arguments, by path.
      result: what it returned; None if it raised.
      written: the tensors of the safetensors file that it wrote; empty if it wrote none.
      error: what it raised.
    """

    number: int
    operation: str
    arguments: dict[str, Any]
    places: dict[str, Place]
    result: Any = None
    written: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: BaseException | None = None


class Recorder:
    """Wraps the operations of a subject.

    Args:
      folder: where to keep copies of the files that calls are given.

    Attributes:
      calls: the calls so far, in order.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.calls: list[Call] = []

    def wrap(self, subject: Subject) -> Any:
        """Return an object that behaves as the subject and records every call."""
        return _Recorded(subject, self)

    def record(self, operation: str, function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a function and record the call."""
        arguments = dict(zip(PARAMETERS[operation], args, strict=False)) | named
        number = len(self.calls)
        places = {path: self._place(path, number, n) for n, path in enumerate(_paths(arguments))}
        call = Call(number, operation, copy.deepcopy(arguments), places)
        self.calls.append(call)
        try:
            call.result = function(*args, **named)
        except BaseException as error:
            call.error = error
            raise
        finally:
            for place in places.values():
                place.after = digest(Path(place.path))
        if "out" in arguments:
            call.written = _tensors(Path(arguments["out"]))
        return call.result

    def _place(self, path: str, number: int, position: int) -> Place:
        source, target = Path(path), self._folder / f"{number}-{position}" / Path(path).name
        if not source.exists():
            return Place(path, None, "")
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            target.parent.mkdir(parents=True)
            shutil.copy(source, target)
        return Place(path, target, digest(source))


class _Recorded:
    """A subject whose operations are recorded."""

    def __init__(self, subject: Subject, recorder: Recorder) -> None:
        self._subject, self._recorder = subject, recorder

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._subject, name)
        if name not in OPERATIONS:
            return found
        return lambda *args, **named: self._recorder.record(name, found, args, named)


def digest(path: Path) -> str:
    """Return a digest of a file or of all files below a folder; "" if there is neither."""
    if not path.exists():
        return ""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.relative_to(path)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def _tensors(folder: Path) -> dict[str, Any]:
    """Return the tensors of the safetensors file in a folder; none if there is no such file."""
    files = list(folder.glob("*.safetensors"))
    return dict(safetensors_file.read(files[0])) if len(files) == 1 else {}


def _paths(value: Any) -> list[str]:
    """Return the absolute paths among the strings of nested arguments, each once."""
    return list(dict.fromkeys(text for text in _texts(value) if text.startswith("/")))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(_texts(each) for each in value.values())
    elif isinstance(value, list | tuple):
        yield from itertools.chain.from_iterable(_texts(each) for each in value)
