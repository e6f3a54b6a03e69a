"""All input of the pages, read once: result files and nothing else."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reports.read.benchmark_runs import BenchmarkRun, read_runs
from reports.read.commands import Commands, read_commands
from reports.read.contract_runs import read_run
from reports.read.gaps import gaps
from reports.read.headlines import Machine, machines
from reports.read.lines import Line, lines
from reports.read.merged import Entry, newest
from reports.read.museum import Museum, read_museum
from reports.read.standing import Standing, standing
from reports.read.subject_columns import Column, columns

# Relative to the folder of the pages.
COMPAT, RESULTS, COMMANDS, FAULTS = Path("compat"), Path("results"), Path("commands"), Path("faults.jsonl")


@dataclass(frozen=True)
class Sources:
    """The content of the result files.

    Attributes:
      columns: subjects by version, with their newest rows.
      museum: the faults; None if the file does not exist.
      runs: the benchmark runs, the oldest first.
      commands: time and memory of the commands, the newest file of each machine and size.
    """

    columns: tuple[Column, ...]
    museum: Museum | None
    runs: tuple[BenchmarkRun, ...]
    commands: tuple[Commands, ...]

    @cached_property
    def standings(self) -> list[Standing]:
        return [standing(column) for column in self.columns]

    @cached_property
    def merged(self) -> list[Entry]:
        """One entry per machine, cell and subject."""
        return newest(self.runs)

    @cached_property
    def lines(self) -> list[Line]:
        return lines(self.merged)

    @cached_property
    def machines(self) -> list[Machine]:
        return machines(self.runs)

    @cached_property
    def gaps(self) -> list[str]:
        return gaps(self.merged)


def read_sources(folder: Path) -> Sources:
    """Read the files below the folder of the pages.

    Raises:
      ValueError: there is no contract run, or a file is incomplete; the message names it.
      OSError: a file cannot be read.
    """
    files = sorted((folder / COMPAT).glob("*.jsonl"))
    if not files:
        name = f"{folder.name}/{COMPAT}/NAME.jsonl"
        raise ValueError(f"expected result files {name}, found none; nox -s compat -- --results {name} writes one")
    museum = folder / FAULTS
    return Sources(
        columns=tuple(columns(read_run(file) for file in files)),
        museum=read_museum(museum) if museum.is_file() else None,
        runs=tuple(read_runs(folder / RESULTS)),
        commands=tuple(read_commands(folder / COMMANDS)),
    )
