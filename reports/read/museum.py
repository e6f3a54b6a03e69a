"""Reading ``faults.jsonl``: every rebuilt bug, its story and evidence, and the contracts that caught it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reports.read.records import AGAIN, Record, read_records, wrong

SCHEMA = Path(__file__).parents[1] / "schema" / "faults.schema.json"


@dataclass(frozen=True)
class Museum:
    """What one file of faults tells.

    Attributes:
      file: where it was read from.
      header: what ran where.
      faults: the rows, in the order of their ids.
    """

    file: Path
    header: Record
    faults: tuple[Record, ...]

    @property
    def historical(self) -> tuple[Record, ...]:
        """Those that rebuild a bug that somebody met; the others are classical mistakes."""
        return tuple(fault for fault in self.faults if fault["bugs"])

    @property
    def bugs(self) -> frozenset[str]:
        """The ids of ``docs/bugs.md`` that are rebuilt."""
        return frozenset(bug for fault in self.faults for bug in fault["bugs"])

    @property
    def caught(self) -> tuple[Record, ...]:
        """Those that at least one contract caught."""
        return tuple(fault for fault in self.faults if fault["caught_by"])

    def by_contract(self) -> Mapping[str, list[str]]:
        """Contract -> the faults that it caught."""
        found: dict[str, list[str]] = {}
        for fault in self.faults:
            for contract in fault["caught_by"]:
                found.setdefault(contract, []).append(fault["fault"])
        return found


def read_museum(file: Path) -> Museum:
    """The faults of a file.

    Raises:
      StreamError: it is not header, rows, footer of one run, a fault comes twice, or the footer counts otherwise.
      OSError: it cannot be read.
    """
    records = read_records(file, SCHEMA)
    (_, header), rows, (last, footer) = records[0], records[1:-1], records[-1]
    seen: dict[str, int] = {}
    for number, row in rows:
        if (first := seen.setdefault(row["fault"], number)) != number:
            raise wrong(file, number, "every fault once", f"{row['fault']}, which line {first} has already", AGAIN)
    found = Museum(file, header, tuple(sorted((row for _, row in rows), key=lambda row: str(row["fault"]))))
    if (footer["rows"], footer["caught"]) != (len(found.faults), len(found.caught)):
        told = f"{footer['rows']} rows, {footer['caught']} caught, as the footer says"
        raise wrong(file, last, told, f"{len(found.faults)} rows, {len(found.caught)} caught", AGAIN)
    return found
