"""``python -m reports``: write what the result files say into the README and ``reports/matrix.md``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reports.columns import columns
from reports.contracts import contracts
from reports.markdown import between
from reports.matrix import matrix
from reports.speed import read_runs, speed
from reports.stream import read_run

ROOT = Path(__file__).parents[1]
RESULTS = Path("reports/compat")
BENCHMARKS = Path("reports/results")
PAGE = Path("reports/matrix.md")
README = Path("README.md")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the pages, or with ``--check`` compare them; 0 if all is well, 1 if a page is old, 2 if a file is wrong."""
    parser = argparse.ArgumentParser(prog="python -m reports")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is not what the files say")
    check: bool = parser.parse_args(arguments).check
    try:
        old = {name: text for name, text in pages(root).items() if _text(root / name) != text}
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, text in old.items():
        if check:
            print(f"error: {name} is not what the files below reports/ say; run nox -s report", file=sys.stderr)
        else:
            (root / name).write_text(text, encoding="utf-8", newline="\n")
            print(f"{name}: written")
    return 1 if check and old else 0


def pages(root: Path) -> dict[Path, str]:
    """Path from the root -> text, of every page that tells of the result files.

    Raises:
      ValueError: there are no result files, one is not whole, or the README lacks a marker.
    """
    files = sorted((root / RESULTS).glob("*.jsonl"))
    if not files:
        name = f"{RESULTS.as_posix()}/NAME.jsonl"
        raise ValueError(f"expected result files {name}, found none; nox -s compat -- --results {name} writes one")
    found = columns(read_run(file) for file in files)
    part = matrix(found, page=PAGE.as_posix(), folder=RESULTS.as_posix())
    readme = between((root / README).read_text(encoding="utf-8"), "matrix", part, file=README.name)
    if runs := read_runs(root / BENCHMARKS):
        readme = between(readme, "speed", speed(runs, folder=BENCHMARKS.as_posix()), file=README.name)
    return {README: readme, PAGE: contracts(found, folder=RESULTS.relative_to(PAGE.parent).as_posix())}


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
