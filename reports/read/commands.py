"""Read time and memory of the ``pi0-compat`` commands: the result files of ``python -m benchmarks.commands``."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

_SCHEMAS = Path(__file__).parents[1] / "schema"


class Commands(NamedTuple):
    """A result file.

    Attributes:
      file: its path relative to the folder of the pages, with slashes.
      result: its content.
    """

    file: str
    result: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """Machine and size; the newest file of each is shown."""
        return str(self.result["environment"]["slug"]), str(self.result["size"])


def read_commands(folder: Path) -> list[Commands]:
    """Return the newest result file of each machine and size below ``folder``, a subfolder of the pages' folder.

    Raises:
      ValueError: a file is invalid or truncated; the message names it.
      OSError: a file cannot be read.
    """
    files = [_read(file, folder.parent) for file in sorted(folder.rglob("*.json"))]
    newest = {each.key: each for each in sorted(files, key=lambda each: (each.result["run"]["started"], each.file))}
    return [newest[key] for key in sorted(newest)]


def _read(file: Path, root: Path) -> Commands:
    again = "run python -m benchmarks.commands again"
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: expected JSON, found {error}; {again}") from error
    if wrong := best_match(_validator().iter_errors(result)):
        raise ValueError(f"{file}: {wrong.json_path.removeprefix('$.')}: {wrong.message}; {again}")
    return Commands(file.relative_to(root).as_posix(), result)


@cache
def _validator() -> Draft202012Validator:
    own, shared = (
        json.loads((_SCHEMAS / f"{name}.schema.json").read_text("utf-8")) for name in ("commands", "results")
    )
    return Draft202012Validator({**own, "$defs": shared["$defs"]})
