"""``python -m benchmarks check``: validate a result file and its cells.

The rules are in ``rules`` and ``consistency``; they need only numpy.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import consistency, rules

Json = Mapping[str, Any]

SCHEMA = Path(__file__).parents[2] / "reports" / "schema" / "results.schema.json"
_AGAIN = "run the benchmark again"


@dataclass(frozen=True)
class Problem:
    """A violation or a note reported by a rule.

    Attributes:
      rule: the rule's name; ``schema`` for the format.
      text: the expected and the actual value.
      cell: the cell's id; empty for the whole file.
      subject: the cell's subject; empty for the whole file.
      invalid: whether it invalidates the cell or the whole file; otherwise it is a note.
    """

    rule: str
    text: str
    cell: str = ""
    subject: str = ""
    invalid: bool = True

    def __str__(self) -> str:
        where = f"{self.cell}, {self.subject}: " if self.cell else ""
        return f"{'invalid' if self.invalid else 'note'}: {where}{self.text} ({self.rule})"


def problems(result: Json) -> list[Problem]:
    """Return all problems of a result that matches the schema, those of the whole file first."""
    return [*_of_run(result), *(problem for cell in result["cells"] for problem in _of_cell(cell, result))]


def valid_cells(result: Json) -> list[Json]:
    """Return the measured, valid cells; none if the whole file is invalid."""
    wrong = {(problem.cell, problem.subject) for problem in problems(result) if problem.invalid}
    measured = [cell for cell in result["cells"] if cell["outcome"] == "measured"]
    return [] if ("", "") in wrong else [cell for cell in measured if (cell["id"], cell["subject"]) not in wrong]


def check_file(path: Path) -> list[Problem]:
    """Return the problems of a file; if it does not match the schema, only that one.

    Without jsonschema, which a GPU machine may lack, only the rules are applied, and a note says so.

    Raises:
      OSError: the file cannot be read.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return [Problem("schema", f"expected JSON, found {error}; {_AGAIN}")]
    schema_problems = _of_schema(result)
    if any(problem.invalid for problem in schema_problems):
        return schema_problems
    try:
        return [*schema_problems, *problems(result)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        text = f"expected a result file, found one that the rules cannot interpret ({type(error).__name__}: {error})"
        return [*schema_problems, Problem("schema", f"{text}; {_AGAIN}")]


def _of_schema(result: Any) -> list[Problem]:
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        return [Problem("schema", "not compared with the schema: jsonschema is not installed", invalid=False)]
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    errors = sorted(Draft202012Validator(schema).iter_errors(result), key=lambda error: error.json_path)
    return [Problem("schema", f"{error.json_path.removeprefix('$.')}: {error.message}; {_AGAIN}") for error in errors]


def _of_run(result: Json) -> Iterator[Problem]:
    for rule in consistency.OF_RUNS:
        if text := rule(result):
            yield Problem(rule.__name__, text)
    for rule in consistency.NOTES:
        if text := rule(result):
            yield Problem(rule.__name__, text, invalid=False)


def _of_cell(cell: Json, result: Json) -> Iterator[Problem]:
    measured = cell["outcome"] == "measured"
    for rule in (*consistency.OF_CELLS, *(rules.BREAKS if measured else ())):
        if text := rule(cell, result):
            yield Problem(rule.__name__, text, cell["id"], cell["subject"])
    for rule in rules.NOTES if measured else ():
        if text := rule(cell, result):
            yield Problem(rule.__name__, text, cell["id"], cell["subject"], invalid=False)
