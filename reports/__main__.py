"""``python -m reports``: generate the pages in ``reports/`` and parts of the README and of ``docs/``."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from reports.draw.pictures import pictures
from reports.pages.commands import commands_part
from reports.pages.contracts import contracts
from reports.pages.headline import headline
from reports.pages.markdown import between
from reports.pages.matrix import matrix
from reports.pages.overview import FOLDER, overview
from reports.pages.page import page
from reports.pages.speed import speed
from reports.read.lines import summary
from reports.read.sources import COMPAT, RESULTS, Sources, read_sources

ROOT = Path(__file__).parents[1]
PAGES = Path("reports")
# Pages with generated parts between markers.
README, MATRIX, SPEED = Path("README.md"), Path("docs/results.md"), Path("docs/benchmarks.md")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the pages, or compare them with ``--check``; return 0, 1 if a page is outdated, 2 if a file is invalid."""
    parser = argparse.ArgumentParser(prog="python -m reports")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is outdated")
    check: bool = parser.parse_args(arguments).check
    try:
        old = {name: text for name, text in pages(root).items() if _text(root / name) != text}
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, text in old.items():
        if check:
            print(
                f"error: {name} is outdated: it does not match the files in {PAGES}/; run nox -s report",
                file=sys.stderr,
            )
        else:
            print(f"{name}: {_write(root / name, text)}")
    return 1 if check and old else 0


def pages(root: Path) -> dict[Path, str | None]:
    """Return path from the root -> text of every generated page; the text is None for a picture to delete.

    Raises:
      ValueError: there are no result files, one is incomplete, or a page lacks a marker.
    """
    sources = read_sources(root / PAGES)
    drawn = pictures(sources)
    leftover = [file.relative_to(root) for file in (root / PAGES / FOLDER).glob("*.svg")]
    written = {
        Path("index.html"): page(sources, drawn),
        Path("matrix.md"): contracts(sources.columns, folder=COMPAT.as_posix()),
        Path("summary.csv"): summary(sources.lines),
        **overview(sources, drawn),
    }
    return {
        **dict.fromkeys(sorted(leftover)),
        **{page: _filled(root, page, parts) for page, parts in _parts(sources).items()},
        **{PAGES / name: text for name, text in written.items()},
    }


def _parts(sources: Sources) -> dict[Path, dict[str, str]]:
    """Return page -> marker -> the text between its markers."""
    pages = f"../{PAGES}"
    measured = {}
    if sources.runs:
        measured["speed"] = speed(sources.runs, folder=f"{pages}/{RESULTS}")
    if sources.commands:
        measured["commands"] = commands_part(sources.commands, pages)
    return {
        README: {"headline": headline(sources.standings, sources.machines)},
        MATRIX: {"matrix": matrix(sources.columns, page=f"{pages}/matrix.md", folder=f"{pages}/{COMPAT}")},
        SPEED: measured,
    }


def _filled(root: Path, page: Path, parts: Mapping[str, str]) -> str:
    """Return the text of a page with its generated parts filled in."""
    text = (root / page).read_text(encoding="utf-8")
    for name, part in parts.items():
        text = between(text, name, part, file=page.as_posix())
    return text


def _write(file: Path, text: str | None) -> str:
    """Write a page, or delete it if ``text`` is None; return what was done."""
    if text is None:
        file.unlink()
        return "deleted"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8", newline="\n")
    return "written"


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
