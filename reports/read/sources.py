"""Everything that pages are made of, read once: result files, and nothing else."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reports.read.columns import Column, columns
from reports.read.commands import Commands, read_commands
from reports.read.gaps import gaps
from reports.read.headlines import Machine, machines
from reports.read.lines import Line, lines
from reports.read.merged import Entry, newest
from reports.read.museum import Museum, read_museum
from reports.read.runs import Run, read_runs
from reports.read.standing import Standing, standing
from reports.read.stream import read_run

# Below the folder of the pages.
COMPAT, RESULTS, COMMANDS, FAULTS = Path("compat"), Path("results"), Path("commands"), Path("faults.jsonl")


@dataclass(frozen=True)
class Sources:
    """What the files say.

    Attributes:
      columns: subjects and versions, with their newest rows.
      museum: the faults; None if there is no file.
      runs: of the benchmarks, the oldest first.
      commands: what the commands took, the newest of each machine and size.
    """

    columns: tuple[Column, ...]
    museum: Museum | None
    runs: tuple[Run, ...]
    commands: tuple[Commands, ...]

    @cached_property
    def standings(self) -> list[Standing]:
        return [standing(column) for column in self.columns]

    @cached_property
    def merged(self) -> list[Entry]:
        """One entry a machine, cell and subject."""
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
    """The files below the folder of the pages.

    Raises:
      ValueError: there is no file of a run of the contracts, or one file is not whole; the message names it.
      OSError: one cannot be read.
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
