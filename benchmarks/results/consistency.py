"""Consistency rules of a result file: references resolve, cells are unique, and mean the same for all subjects.

A rule in ``OF_CELLS`` takes a cell and the whole result; a rule in ``OF_RUNS`` or ``NOTES`` takes the result. Each
returns a message with the expected and the actual value, or None.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
FORMAT = ("pi0-compat/benchmark", 1)


def subject_is_listed(cell: Json, result: Json) -> str | None:
    """The cell's subject is listed."""
    listed = result["subjects"]
    return None if cell["subject"] in listed else f"expected a subject of {', '.join(listed)}, found {cell['subject']}"


def fixture_is_listed(cell: Json, result: Json) -> str | None:
    """The cell's fixture is listed exactly once."""
    listed = [fixture["id"] for fixture in result["fixtures"]]
    if cell["fixture"] is None or listed.count(cell["fixture"]) == 1:
        return None
    return f"expected fixture {cell['fixture']} once in fixtures, found it {listed.count(cell['fixture'])} times"


def comes_once(cell: Json, result: Json) -> str | None:
    """A subject has each cell once; with two, a reader could pick the better one."""
    count = sum(cell["subject"] == other["subject"] for other in _namesakes(cell, result))
    return f"expected the cell once, found it {count} times" if count > 1 else None


def is_the_same_for_all(cell: Json, result: Json) -> str | None:
    """Cells with the same id measure the same for every subject; otherwise their ratio would be meaningless."""
    for name in ("workload", "operation", "size", "fixture", "options"):
        for other in _namesakes(cell, result):
            if other[name] != cell[name]:
                return f"expected the same {name} for all subjects, found {cell[name]} and {other[name]}"
    return None


def says_why_not(cell: Json, _: Json) -> str | None:
    """A cell that was not measured has a reason and no samples."""
    if cell["outcome"] == "measured":
        return None
    if not cell["reason"]:
        return f"expected a reason for outcome {cell['outcome']}, found none"
    return f"expected no samples for outcome {cell['outcome']}, found some" if cell["samples"] else None


def format_is_this(result: Json) -> str | None:
    """The file has the known schema and version."""
    actual = (result["schema"], result["schema_version"])
    return None if actual == FORMAT else "expected {} {}, found {} {}".format(*FORMAT, *actual)


def has_measurements(result: Json) -> str | None:
    """At least one cell was measured; an empty run must not pass."""
    measured = any(cell["outcome"] == "measured" for cell in result["cells"])
    return None if measured else "expected measured cells, found none"


def commit_is_known(result: Json) -> str | None:
    """The measured commit is recorded, so that the code can be found again."""
    commit = result["run"]["commit"]
    known = isinstance(commit, str) and re.fullmatch("[0-9a-f]{40}", commit)
    return None if known else f"expected a commit of 40 hexadecimal digits, found {commit}"


def numbers_are_finite(result: Json) -> str | None:
    """All numbers are finite: JSON has no NaN, though Python writes it. Losses are checked by the rules of cells."""
    wrong = next((place for place, number in _numbers(result, "") if not math.isfinite(number)), None)
    return f"expected finite numbers, found another at {wrong}; leave it out or write null" if wrong else None


def tree_is_clean(result: Json) -> str | None:
    """The working tree was clean; otherwise the commit does not identify the measured code."""
    return "dirty: files differed from the commit" if result["run"]["dirty"] else None


OF_CELLS: tuple[Callable[[Json, Json], str | None], ...] = (
    subject_is_listed,
    fixture_is_listed,
    comes_once,
    is_the_same_for_all,
    says_why_not,
)
OF_RUNS: tuple[Callable[[Json], str | None], ...] = (
    format_is_this,
    has_measurements,
    commit_is_known,
    numbers_are_finite,
)
NOTES: tuple[Callable[[Json], str | None], ...] = (tree_is_clean,)


def _namesakes(cell: Json, result: Json) -> list[Json]:
    """Return the cells with the same id, including this one."""
    return [other for other in result["cells"] if other["id"] == cell["id"]]


def _numbers(value: Any, place: str) -> Iterator[tuple[str, float]]:
    """Yield the path and value of every number except losses."""
    if isinstance(value, int | float):
        yield place, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key != "losses":
                yield from _numbers(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{place}[{index}]")
