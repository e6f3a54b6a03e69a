"""``python -m suite.docs`` writes the generated pages of ``docs/``; ``--check`` only names those that are stale."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from suite.docs import api, bugs, commands, configs, contracts, doctor, reproducers

ROOT = Path(__file__).parents[2]
# Every generated page, by its path from the root, and the function that returns its text.
PAGES: Mapping[str, Callable[[], str]] = {
    "docs/api.md": api.page,
    "docs/bugs.md": bugs.page,
    "docs/cli_reference.md": commands.page,
    "docs/configs.md": configs.page,
    "docs/contracts.md": contracts.page,
    "docs/doctor.md": doctor.page,
    "docs/reproducers.md": reproducers.page,
}


def stale(pages: Mapping[str, Callable[[], str]], root: Path) -> dict[str, str]:
    """Return the current text of every page whose file is missing or has another text.

    Args:
      pages: path of a page, relative to ``root`` -> the function that returns its text.
      root: the folder that the paths start from.
    """
    texts = {name: page() for name, page in pages.items()}
    return {name: text for name, text in texts.items() if _text_of(root / name) != text}


def main(
    arguments: list[str] | None = None, *, pages: Mapping[str, Callable[[], str]] = PAGES, root: Path = ROOT
) -> int:
    """Write the stale pages, or with ``--check`` name them.

    Returns:
      The exit status: 1 if ``--check`` finds a stale page, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m suite.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is stale")
    check = parser.parse_args(arguments).check
    found = stale(pages, root)
    for name, text in found.items():
        if check:
            print(f"{name} is stale: run python -m suite.docs", file=sys.stderr)
        else:
            (root / name).write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return int(check and bool(found))


def _text_of(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.exists() else None


if __name__ == "__main__":
    sys.exit(main())
