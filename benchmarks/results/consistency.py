"""Whether a result file hangs together: what its cells name is there, comes once, and means the same for all subjects.

A rule of ``OF_CELLS`` takes any cell and the whole result, a rule of ``OF_RUNS`` and ``NOTES`` the result; each gives a
text if there is something to say: what is expected and what was found.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
FORMAT = ("pi0-compat/benchmark", 1)


def subject_is_listed(cell: Json, result: Json) -> str | None:
    """It is told what ran as the subject."""
    listed = result["subjects"]
    return None if cell["subject"] in listed else f"expected a subject of {', '.join(listed)}, found {cell['subject']}"


def fixture_is_listed(cell: Json, result: Json) -> str | None:
    """It is told what was read."""
    listed = [fixture["id"] for fixture in result["fixtures"]]
    if cell["fixture"] is None or listed.count(cell["fixture"]) == 1:
        return None
    return f"expected fixture {cell['fixture']} once in fixtures, found it {listed.count(cell['fixture'])} times"


def comes_once(cell: Json, result: Json) -> str | None:
    """A subject has a cell once: of two, a reader could pick the better one."""
    found = sum(cell["subject"] == other["subject"] for other in _namesakes(cell, result))
    return f"expected the cell once, found it {found} times" if found > 1 else None


def is_the_same_for_all(cell: Json, result: Json) -> str | None:
    """Cells of one id asked the same of every subject; otherwise their ratio would compare two questions."""
    for name in ("workload", "operation", "size", "fixture", "options"):
        for other in _namesakes(cell, result):
            if other[name] != cell[name]:
                return f"expected the same {name} for all subjects, found {cell[name]} and {other[name]}"
    return None


def says_why_not(cell: Json, _: Json) -> str | None:
    """What was not measured has a reason and no samples."""
    if cell["outcome"] == "measured":
        return None
    if not cell["reason"]:
        return f"expected a reason for outcome {cell['outcome']}, found none"
    return f"expected no samples for outcome {cell['outcome']}, found some" if cell["samples"] else None


def format_is_this(result: Json) -> str | None:
    """A file of another kind or version is not guessed at."""
    found = (result["schema"], result["schema_version"])
    return None if found == FORMAT else "expected {} {}, found {} {}".format(*FORMAT, *found)


def has_measurements(result: Json) -> str | None:
    """A run that measured nothing is not a run in which all is well."""
    measured = any(cell["outcome"] == "measured" for cell in result["cells"])
    return None if measured else "expected cells that were measured, found none"


def commit_is_known(result: Json) -> str | None:
    """What was measured can be found again."""
    commit = result["run"]["commit"]
    known = isinstance(commit, str) and re.fullmatch("[0-9a-f]{40}", commit)
    return None if known else f"expected a commit of 40 hexadecimal digits, found {commit}"


def numbers_are_finite(result: Json) -> str | None:
    """JSON has no NaN; Python writes it nevertheless. Losses are looked at with their cells."""
    wrong = next((place for place, number in _numbers(result, "") if not math.isfinite(number)), None)
    return f"expected finite numbers, found another at {wrong}; leave it out or write null" if wrong else None


def tree_is_clean(result: Json) -> str | None:
    """A commit does not tell what was measured if files differed from it."""
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
    """The cells of its id, itself among them."""
    return [other for other in result["cells"] if other["id"] == cell["id"]]


def _numbers(value: Any, place: str) -> Iterator[tuple[str, float]]:
    """Every number but losses, and where it stands."""
    if isinstance(value, int | float):
        yield place, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key != "losses":
                yield from _numbers(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{place}[{index}]")
