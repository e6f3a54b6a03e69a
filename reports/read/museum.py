"""Read ``faults.jsonl``: every rebuilt bug, its story and evidence, and the contracts that caught it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reports.read.records import AGAIN, Record, read_records, wrong

SCHEMA = Path(__file__).parents[1] / "schema" / "faults.schema.json"


@dataclass(frozen=True)
class Museum:
    """The content of a file of faults.

    Attributes:
      file: the file it was read from.
      header: the run's environment.
      faults: the rows, sorted by id.
    """

    file: Path
    header: Record
    faults: tuple[Record, ...]

    @property
    def historical(self) -> tuple[Record, ...]:
        """The faults that rebuild a bug reported by users; the others are classical mistakes."""
        return tuple(fault for fault in self.faults if fault["bugs"])

    @property
    def bugs(self) -> frozenset[str]:
        """The rebuilt bugs, as ids of ``docs/bugs.md``."""
        return frozenset(bug for fault in self.faults for bug in fault["bugs"])

    @property
    def caught(self) -> tuple[Record, ...]:
        """The faults that at least one contract caught."""
        return tuple(fault for fault in self.faults if fault["caught_by"])

    def by_contract(self) -> Mapping[str, list[str]]:
        """Return contract -> the faults it caught."""
        faults: dict[str, list[str]] = {}
        for fault in self.faults:
            for contract in fault["caught_by"]:
                faults.setdefault(contract, []).append(fault["fault"])
        return faults


def read_museum(file: Path) -> Museum:
    """Read a file of faults.

    Raises:
      StreamError: it is not the header, rows and footer of one run, a fault is duplicated, or the counts do not match.
      OSError: the file cannot be read.
    """
    records = read_records(file, SCHEMA)
    (_, header), rows, (last, footer) = records[0], records[1:-1], records[-1]
    seen: dict[str, int] = {}
    for number, row in rows:
        if (first := seen.setdefault(row["fault"], number)) != number:
            raise wrong(file, number, "every fault once", f"{row['fault']}, which line {first} has already", AGAIN)
    museum = Museum(file, header, tuple(sorted((row for _, row in rows), key=lambda row: str(row["fault"]))))
    if (footer["rows"], footer["caught"]) != (len(museum.faults), len(museum.caught)):
        counted = f"{footer['rows']} rows, {footer['caught']} caught, as the footer says"
        raise wrong(file, last, counted, f"{len(museum.faults)} rows, {len(museum.caught)} caught", AGAIN)
    return museum
