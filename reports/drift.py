"""``python -m reports.drift OLD.jsonl NEW.jsonl ...``: show which contracts changed with which package versions."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from reports.read.contract_runs import ContractRun, read_run
from reports.read.records import Record

_KEPT = ("pass", "known")
_BROKEN = ("fail", "error")
_GONE = "-"


@dataclass(frozen=True)
class Change:
    """A case whose outcome differs between two runs.

    Attributes:
      name: the contract, with the case in brackets if it has one.
      before: the row of the older run; None if it was not run.
      after: the row of the newer run; None if it was not run.
    """

    name: str
    before: Record | None
    after: Record | None

    @property
    def breaks(self) -> bool:
        """Whether a contract that passed, or was known to fail, fails now."""
        return _outcome(self.before) in _KEPT and _outcome(self.after) in _BROKEN

    def __str__(self) -> str:
        message = _message(self.after) or _message(self.before)
        return f"{self.name}: {_outcome(self.before)} -> {_outcome(self.after)}{f' ({message})' if message else ''}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare each run with the previous one; return 1 if a contract broke, 2 if a file is invalid."""
    parser = argparse.ArgumentParser(prog="python -m reports.drift")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="result files of a subject, oldest first")
    files: list[Path] = parser.parse_args(arguments).files
    if len(files) < 2:
        parser.error(f"expected at least two result files, found {files[0]}")
    try:
        compared = [_compare(*pair) for pair in pairwise([read_run(file) for file in files])]
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(line for lines, _ in compared for line in lines))
    return int(any(broke for _, broke in compared))


def versions(run: ContractRun, subject: Record) -> dict[str, str]:
    """Return the versions that a subject ran on: name -> version."""
    commit = run.header["git"]["commit"]
    environment = {"Python": run.header["python"], "pi0-compat": commit[:7] if commit else "no commit"}
    own = {subject["name"]: subject["version"]} if "version" in subject else {}
    return environment | own | dict(subject.get("packages", {}))


def changes(before: Sequence[Record], after: Sequence[Record]) -> list[Change]:
    """Return the cases whose outcome changed, or that only one run has, sorted by name."""
    old, new = _by_name(before), _by_name(after)
    candidates = [Change(name, old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())]
    return [change for change in candidates if _outcome(change.before) != _outcome(change.after)]


def _compare(before: ContractRun, after: ContractRun) -> tuple[list[str], bool]:
    """Return the lines to print for two consecutive runs, and whether a contract broke.

    Raises:
      ValueError: the runs have no subject in common.
    """
    old, new = ({subject["name"]: subject for subject in run.subjects} for run in (before, after))
    if not old.keys() & new.keys():
        raise ValueError(
            f"{after.file}: expected a subject of {before.file} ({', '.join(old)}), found {', '.join(new)}"
        )
    lines, broke = [f"{before.file.name} -> {after.file.name}"], False
    for name in (name for name in old if name in new):
        changed = changes(before.rows_of(name), after.rows_of(name))
        broke |= any(change.breaks for change in changed)
        lines += [f"  {name}: {_moved(versions(before, old[name]), versions(after, new[name]))}"]
        lines += [f"    {change}" for change in changed] or ["    no contract changed"]
    return lines, broke


def _moved(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Return every version that changed."""
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    moved = [f"{name} {old.get(name, _GONE)} -> {new.get(name, _GONE)}" for name in names]
    return ", ".join(moved) or "the same versions"


def _by_name(rows: Sequence[Record]) -> dict[str, Record]:
    return {f"{row['contract']}[{row['case']}]" if row["case"] else row["contract"]: row for row in rows}


def _outcome(row: Record | None) -> str:
    return row["outcome"] if row else "not run"


def _message(row: Record | None) -> str:
    """Return a row's failure message; for a known failure, its reason."""
    if row is None:
        return ""
    return str(row["expectation"]["reason"] if row["outcome"] == "known" else row["message"])


if __name__ == "__main__":
    sys.exit(main())
