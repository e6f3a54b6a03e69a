"""The README and the pages of ``docs/`` as text, and the code blocks in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
# Written by people: what links and names things by hand.
PAGES = (README, CONTRIBUTING, ROOT / ".github" / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md")))


def text_of(page: Path) -> str:
    """Return the text of a page."""
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of each ``pi0-compat`` in the bash blocks of a page."""
    for block in blocks(page, "bash"):
        for line in block.splitlines():
            program, *arguments = shlex.split(line, comments=True) or [""]
            if program == "pi0-compat":
                yield arguments
