"""``python -m reports.drift OLD.jsonl NEW.jsonl ...``: which change of a package's version changed which contract."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from reports.read.records import Record
from reports.read.stream import Run, read_run

_KEPT = ("pass", "known")
_BROKEN = ("fail", "error")
_GONE = "-"


@dataclass(frozen=True)
class Change:
    """A case of which two runs say different things.

    Attributes:
      name: the contract, with the case if it has one.
      before, after: its rows; None where it was not run.
    """

    name: str
    before: Record | None
    after: Record | None

    @property
    def breaks(self) -> bool:
        """Whether a law that was kept, or known to be broken, is broken now."""
        return _outcome(self.before) in _KEPT and _outcome(self.after) in _BROKEN

    def __str__(self) -> str:
        message = _message(self.after) or _message(self.before)
        return f"{self.name}: {_outcome(self.before)} -> {_outcome(self.after)}{f' ({message})' if message else ''}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare each run with the one before; 1 if a contract broke on the way, 2 if a file is wrong."""
    parser = argparse.ArgumentParser(prog="python -m reports.drift")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="result files of a subject, oldest first")
    files: list[Path] = parser.parse_args(arguments).files
    if len(files) < 2:
        parser.error(f"expected at least two result files, found {files[0]}")
    try:
        found = [_compare(*pair) for pair in pairwise([read_run(file) for file in files])]
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(line for lines, _ in found for line in lines))
    return int(any(broke for _, broke in found))


def versions(run: Run, subject: Record) -> dict[str, str]:
    """What a subject ran on in a run, name -> version."""
    commit = run.header["git"]["commit"]
    told = {"Python": run.header["python"], "pi0-compat": commit[:7] if commit else "no commit"}
    own = {subject["name"]: subject["version"]} if "version" in subject else {}
    return told | own | dict(subject.get("packages", {}))


def changes(before: Sequence[Record], after: Sequence[Record]) -> list[Change]:
    """The cases whose outcome changed, or that only one of two runs has, in the order of their names."""
    old, new = _by_name(before), _by_name(after)
    found = [Change(name, old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())]
    return [change for change in found if _outcome(change.before) != _outcome(change.after)]


def _compare(before: Run, after: Run) -> tuple[list[str], bool]:
    """What to print of two neighbours, and whether a contract broke.

    Raises:
      ValueError: they have no subject in common.
    """
    old, new = ({subject["name"]: subject for subject in run.subjects} for run in (before, after))
    if not old.keys() & new.keys():
        raise ValueError(
            f"{after.file}: expected a subject of {before.file} ({', '.join(old)}), found {', '.join(new)}"
        )
    lines, broke = [f"{before.file.name} -> {after.file.name}"], False
    for name in (name for name in old if name in new):
        found = changes(before.rows_of(name), after.rows_of(name))
        broke |= any(change.breaks for change in found)
        lines += [f"  {name}: {_moved(versions(before, old[name]), versions(after, new[name]))}"]
        lines += [f"    {change}" for change in found] or ["    no contract changed"]
    return lines, broke


def _moved(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Every version that is another one."""
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    moved = [f"{name} {old.get(name, _GONE)} -> {new.get(name, _GONE)}" for name in names]
    return ", ".join(moved) or "the same versions"


def _by_name(rows: Sequence[Record]) -> dict[str, Record]:
    return {f"{row['contract']}[{row['case']}]" if row["case"] else row["contract"]: row for row in rows}


def _outcome(row: Record | None) -> str:
    return row["outcome"] if row else "not run"


def _message(row: Record | None) -> str:
    """What a row says of what went wrong; of a known failure the reason."""
    if row is None:
        return ""
    return str(row["expectation"]["reason"] if row["outcome"] == "known" else row["message"])


if __name__ == "__main__":
    sys.exit(main())
