"""Reading the result files of benchmark runs, and which of their cells count.

What counts is decided by the rules of ``python -m benchmarks check``, nowhere else.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.results.validity import Problem, check_file

Json = Mapping[str, Any]


class Run(NamedTuple):
    """A result file.

    Attributes:
      file: its path from the folder of all result files, with slashes.
      result: what it holds.
      problems: what the rules have to say of it.
    """

    file: str
    result: Json
    problems: tuple[Problem, ...]

    @property
    def machine(self) -> str:
        """The kind of machine; results of equal machines have equal ones."""
        return str(self.result["environment"]["slug"])

    @property
    def started(self) -> str:
        """In UTC, as text in the order of time."""
        return str(self.result["run"]["started"])

    @property
    def dirty(self) -> bool:
        """Whether the working tree differed from the commit."""
        return bool(self.result["run"]["dirty"])


def read_runs(folder: Path) -> list[Run]:
    """The result files below a folder, the oldest run first.

    Raises:
      ValueError: one is no result of a benchmark run, or is cut off; the message names the file.
      OSError: one cannot be read.
    """
    runs = [_read(file, folder) for file in sorted(folder.rglob("*.json"))]
    return sorted(runs, key=lambda run: (run.started, run.file))


def _read(file: Path, folder: Path) -> Run:
    problems = check_file(file)
    for problem in problems:
        if problem.rule == "schema" and problem.invalid:
            raise ValueError(f"{file}: expected a result of python -m benchmarks, found otherwise: {problem.text}")
    return Run(file.relative_to(folder).as_posix(), json.loads(file.read_text(encoding="utf-8")), tuple(problems))
