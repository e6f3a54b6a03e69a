"""Result rows as JSON lines: a header, one row per contract, case and subject, and a footer.

A file without a footer is incomplete. ``reports/schema/rows.schema.json`` is the schema.
"""

import datetime as dt
import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

# 2: rows that failed have a severity.
SCHEMA_VERSION = 2
# An absolute path without its last component; neither a URL nor a parameter's path.
_FOLDERS = re.compile(r"""(?<![\w.:/*-])/(?:[^\s/'":,;()\[\]]+/)+""")
_FLAGS = ("JAX_PLATFORMS", "XLA_FLAGS", "HYPOTHESIS_PROFILE", "CI")


class ResultStream:
    """A results file, written row by row.

    Args:
      file: where to write; missing folders are created and an existing file is replaced.
      subjects: descriptions of the subjects, for the header.
    """

    def __init__(self, file: Path, subjects: list[dict[str, Any]]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream: TextIO = file.open("w", encoding="utf-8")
        self._counts: Counter[str] = Counter()
        self._write({"kind": "header", "schema_version": SCHEMA_VERSION, **manifest(), "subjects": subjects})

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        self._counts[row["outcome"]] += 1
        self._write({"kind": "row", **row, "message": without_folders(row["message"])})

    def close(self, *, whole: bool = True) -> None:
        """Close the file. If the run is ``whole``, append the footer with the number of rows by outcome."""
        if whole:
            self._write(
                {
                    "kind": "footer",
                    "rows": self._counts.total(),
                    "outcomes": dict(sorted(self._counts.items())),
                }
            )
        self._stream.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()


def manifest() -> dict[str, Any]:
    """Return the date, platform, commit and arguments of a run, for the header of a results file."""
    return {
        "started": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "git": _git_state(),
        "flags": {name: os.environ[name] for name in _FLAGS if name in os.environ},
        "arguments": [without_folders(argument) for argument in sys.argv[1:]],
    }


def without_folders(text: str) -> str:
    """Shorten absolute paths to their last component, because results are published."""
    return _FOLDERS.sub(".../", text)


def _git_state() -> dict[str, Any]:
    """Return the commit and whether the working tree differs from it; both are None outside a checkout."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(*args: str) -> str | None:
    """Run a git command and return its output, or None outside a checkout."""
    result = subprocess.run(["git", *args], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return result.stdout.strip() if result.returncode == 0 else None
