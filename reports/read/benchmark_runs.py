"""Read the result files of benchmark runs, with their problems.

Validity is decided by the rules of ``python -m benchmarks check`` alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.results.validity import Problem, check_file

Json = Mapping[str, Any]


class BenchmarkRun(NamedTuple):
    """A result file.

    Attributes:
      file: its path relative to the folder of all result files, with slashes.
      result: its content.
      problems: the violations and notes reported by the rules.
    """

    file: str
    result: Json
    problems: tuple[Problem, ...]

    @property
    def machine(self) -> str:
        """The slug of the machine; equal for equal machines."""
        return str(self.result["environment"]["slug"])

    @property
    def started(self) -> str:
        """The start time in UTC; its text sorts by time."""
        return str(self.result["run"]["started"])

    @property
    def dirty(self) -> bool:
        """Whether the working tree differed from the commit."""
        return bool(self.result["run"]["dirty"])


def read_runs(folder: Path) -> list[BenchmarkRun]:
    """Return the result files below a folder, the oldest run first.

    Raises:
      ValueError: a file is not the result of a benchmark run, or is truncated; the message names it.
      OSError: a file cannot be read.
    """
    runs = [_read(file, folder) for file in sorted(folder.rglob("*.json"))]
    return sorted(runs, key=lambda run: (run.started, run.file))


def _read(file: Path, folder: Path) -> BenchmarkRun:
    problems = check_file(file)
    for problem in problems:
        if problem.rule == "schema" and problem.invalid:
            raise ValueError(
                f"{file}: expected a result of python -m benchmarks, found an invalid file: {problem.text}"
            )
    return BenchmarkRun(
        file.relative_to(folder).as_posix(), json.loads(file.read_text(encoding="utf-8")), tuple(problems)
    )
