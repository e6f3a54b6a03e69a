"""What the commands of ``pi0-compat`` take, from the result files of ``python -m benchmarks.commands``."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from reports import units
from reports.markdown import link, plain, table
from reports.tables import NOTHING, Table

_SCHEMAS = Path(__file__).parent / "schema"


class Commands(NamedTuple):
    """A result file.

    Attributes:
      file: its path from the folder of the pages, with slashes.
      result: what it holds.
    """

    file: str
    result: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """Machine and size: of these the newest file is shown."""
        return str(self.result["environment"]["slug"]), str(self.result["size"])


def read_commands(folder: Path) -> list[Commands]:
    """The newest result file of each machine and size below ``folder``, which lies in the folder of the pages.

    Raises:
      ValueError: one is none, or is cut off; the message names it.
      OSError: one cannot be read.
    """
    found = [_read(file, folder.parent) for file in sorted(folder.rglob("*.json"))]
    newest = {each.key: each for each in sorted(found, key=lambda each: (each.result["run"]["started"], each.file))}
    return [newest[key] for key in sorted(newest)]


def commands_table(found: Sequence[Commands]) -> Table:
    """A line a command."""
    head = ("machine", "size", "command", "reads", "takes", "memory", "run")
    rows = [
        (*each.key, row["name"], units.gigabytes(row["read_bytes"]), *_taken(row), each.file)
        for each in found
        for row in each.result["commands"]
    ]
    return Table(head, rows)


def commands_part(found: Sequence[Commands], folder: str) -> str:
    """Of the README: a table, and which files it is from."""
    rows = [
        [f"`{plain(row['name'])}`", plain(each.key[1]), units.gigabytes(row["read_bytes"]), *_taken(row)]
        for each in found
        for row in each.result["commands"]
    ]
    sources = [
        f"* {plain(_source(each))}, {link(each.file.rpartition('/')[2], f'{folder}/{each.file}')}" for each in found
    ]
    return "\n".join([*table(["command", "size", "reads", "takes", "memory"], rows), "", *sources])


def _source(each: Commands) -> str:
    run, cpu = each.result["run"], each.result["environment"]["cpu"]
    dirty = " with local changes" if run["dirty"] else ""
    return f"{run['started'][:10]}, {each.key[0]}, {cpu['cores']} cores, commit {run['commit'][:7]}{dirty}"


def _taken(row: Mapping[str, Any]) -> tuple[str, str]:
    """Seconds and memory; what failed has neither."""
    if row["status"] != 0:
        return f"failed ({row['status']})", NOTHING
    return units.seconds(row["seconds"]), NOTHING if row["peak_bytes"] is None else units.gigabytes(row["peak_bytes"])


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
