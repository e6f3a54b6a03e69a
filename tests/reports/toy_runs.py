"""Results files of toy subjects, written from the description of the format, not by the suite."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

WHY = {"kind": "theirs", "reason": "It sums over the wrong heads.", "link": "https://example.org/issues/1"}


def header(*subjects: Json, **changes: Any) -> Json:
    """Return a header; without subjects it has toy 1.2."""
    return {
        "kind": "header",
        "schema_version": 2,
        "started": "2026-11-22T04:00:00+00:00",
        "python": "3.11.7",
        "platform": "Linux x86_64",
        "cpus": 2,
        "git": {"commit": "0123456789" * 4, "dirty": False},
        "flags": {},
        "arguments": [],
        "subjects": list(subjects or (subject(),)),
        **changes,
    }


def subject(name: str = "toy", version: str | None = "1.2", **changes: Any) -> Json:
    """Return a subject's entry in the header."""
    entry = {"name": name, "capabilities": ["load"], "packages": {name: version or "1", "numpy": "2.1"}}
    return {**entry, **({"version": version} if version else {}), **changes}


def row(contract: str, outcome: str = "pass", case: str = "", **changes: Any) -> Json:
    """Return a row of the subject toy; a failure is silent, and a known one has an expectation."""
    law = f"A {contract.replace('.', ' ').replace('_', ' ')}."
    why: Json = {"expectation": WHY} if outcome in ("known", "fixed") else {}
    failed = {"severity": "silent", "raised": "AssertionError", "needs": ["load"]}
    why |= failed if outcome in ("fail", "known") else {}
    entry = {
        "contract": contract,
        "law": law,
        "source": "openpi #1",
        "case": case,
        "subject": "toy",
        "outcome": outcome,
    }
    return {"kind": "row", **entry, "seconds": 0.5, "message": "", **why, **changes}


def footer(rows: Sequence[Json]) -> Json:
    """Return the footer of these rows."""
    return {"kind": "footer", "rows": len(rows), "outcomes": dict(Counter(row["outcome"] for row in rows))}


def write(file: Path, *records: Json) -> Path:
    """Write a file with one record on each line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


def write_run(file: Path, head: Json, *rows: Json) -> Path:
    """Write a whole results file."""
    return write(file, head, *rows, footer(rows))
