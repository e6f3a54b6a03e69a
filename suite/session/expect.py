"""``python -m suite.session.expect RESULTS.jsonl --subject NAME``: bring a file of expectations up to date with a run.

It prints, or with ``--write`` makes, what has to change in ``suite/expectations/NAME.toml``: entries for failures that
none covers, entries whose failure has changed, entries without a failure. What only a person knows (why, and where that
can be seen) is left as TODO, and a file with a TODO is rejected when it is read.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suite.session.expectation_files import Chunk, parse, render
from suite.session.expectations import FOLDER
from suite.session.revision import Revision, revise

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write the revision; return 0 if nothing has to change, 1 if something has, 2 if a file is invalid."""
    parser = argparse.ArgumentParser(prog="python -m suite.session.expect", description=__doc__)
    parser.add_argument("results", type=Path, metavar="RESULTS.jsonl", help="what --results wrote")
    parser.add_argument("--subject", help="the subject's name (default: the only one of the results)")
    parser.add_argument("--file", type=Path, help="the file of expectations (default: the suite's own of the subject)")
    parser.add_argument(
        "--whole", action="store_true", help="the run has all contracts: drop entries of contracts that it lacks"
    )
    parser.add_argument("--write", action="store_true", help="change the file")
    options = parser.parse_args(arguments)
    try:
        subject, version, rows = _read(options.results, options.subject)
        file = options.file or FOLDER / f"{subject}.toml"
        head, chunks = parse(file)
        revision = revise(chunks, rows, version=version, whole=options.whole)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(_report(file, revision)))
    if options.write and revision.changes:
        file.write_text(render(head, revision.chunks), encoding="utf-8")
        print(f"{file}: written")
    return 1 if revision.changes else 0


def _read(file: Path, subject: str | None) -> tuple[str, str, list[Row]]:
    """Return the name of the subject, its version, and its rows."""
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    if not records or records[0].get("kind") != "header" or (records[0].get("schema_version") or 0) < 2:
        raise ValueError(f"{file}: expected a results file whose failures have a severity; run the contracts again")
    described = {each["name"]: each for each in records[0]["subjects"]}
    name = subject or (next(iter(described)) if len(described) == 1 else "")
    if name not in described:
        raise ValueError(f"{file}: --subject {name}: expected one of {', '.join(described)}")
    rows = [record for record in records if record["kind"] == "row" and record["subject"] == name]
    return name, str(described[name].get("version", "")), rows


def _report(file: Path, revision: Revision) -> list[str]:
    """Return what has to change, one kind of change after the other."""
    lines = [f"{file}: {len(revision.chunks)} entries, {revision.kept} of them as before"]
    for title, chunks in (("new", revision.new), ("changed", revision.changed)):
        lines += [f"{title}: {len(chunks)}", *(line for chunk in chunks for line in ("", *_indented(chunk)))]
    for title, chunks in (("dropped", revision.dropped), ("not asked by this run", revision.unasked)):
        lines += [f"{title}: {len(chunks)}", *(f"    {chunk.name}" for chunk in chunks)]
    return lines


def _indented(chunk: Chunk) -> list[str]:
    return [f"    {line}" for line in chunk.text.strip().splitlines()]


if __name__ == "__main__":
    sys.exit(main())
