"""The table of the commands' time and memory."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.pages.markdown import link, plain, table
from reports.pages.tables import NOTHING, Table
from reports.read import units
from reports.read.commands import Commands


def commands_table(files: Sequence[Commands]) -> Table:
    """Return a table with one row per command."""
    head = ("machine", "size", "command", "reads", "time", "of the limit", "memory", "run")
    rows = [
        (*each.key, row["name"], units.gigabytes(row["read_bytes"]), *_taken(row), each.file)
        for each in files
        for row in each.result["commands"]
    ]
    return Table(head, rows)


def commands_part(files: Sequence[Commands], folder: str) -> str:
    """Return the part of a page: a table and its source files."""
    rows = [
        [f"`{plain(row['name'])}`", plain(each.key[1]), units.gigabytes(row["read_bytes"]), *_taken(row)]
        for each in files
        for row in each.result["commands"]
    ]
    sources = [
        f"* {plain(_source(each))}, {link(each.file.rpartition('/')[2], f'{folder}/{each.file}')}" for each in files
    ]
    return "\n".join([*table(["command", "size", "reads", "time", "of the limit", "memory"], rows), "", *sources])


def _source(each: Commands) -> str:
    run, cpu = each.result["run"], each.result["environment"]["cpu"]
    dirty = " with local changes" if run["dirty"] else ""
    return f"{run['started'][:10]}, {each.key[0]}, {cpu['cores']} cores, commit {run['commit'][:7]}{dirty}"


def _taken(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return seconds of a command, as a multiple of the least that the machine could take, and memory."""
    if row["status"] != 0:
        return f"failed ({row['status']})", NOTHING, NOTHING
    limit, peak = row.get("limit_s"), row["peak_bytes"]
    multiple = units.factor(row["seconds"] / limit) if limit else NOTHING
    return units.seconds(row["seconds"]), multiple, NOTHING if peak is None else units.gigabytes(peak)
