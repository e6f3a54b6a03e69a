"""Links and names in the pages refer to things that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, text_of

LINK = re.compile(r"\]\(([^)\s]+)\)")
# A path of the project between backticks. Names that stand for the reader's own files do not match.
NAMED = re.compile(
    r"`((?:pi0_compat|suite|fixtures|benchmarks|reports|tests|docs|locks|\.ci|\.github)/[\w./-]*)`",
)
OF_THE_READER = re.compile(r"my_|/new_")
# A row of a table: a package and three versions.
VERSIONS = re.compile(r"^\| ([\w-]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", re.MULTILINE)
# Decisions keep the names of the day they were written.
TODAY = [page for page in PAGES if page.parent.name != "decisions"]


def targets(text: str) -> Iterator[str]:
    """Yield the files that a page links to, without anchors."""
    for target in LINK.findall(text):
        file = target.partition("#")[0]
        if file and "://" not in file:
            yield file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    broken = [file for file in targets(text_of(page)) if not (page.parent / file).exists()]
    assert broken == []


@pytest.mark.parametrize("page", TODAY, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_paths_exist(page: Path) -> None:
    named = {path for path in NAMED.findall(text_of(page)) if not OF_THE_READER.search(path)}
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_versions_are_those_of_the_locks() -> None:
    """The table of supported versions in the quickstart has one column of the oldest lock and two of the newest."""
    rows = VERSIONS.findall(text_of(ROOT / "docs" / "quickstart.md"))
    assert len(rows) >= 5
    locks = {name: (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8") for name in ("oldest", "test")}
    for package, *versions in rows:
        for version, lock in zip(versions, ("oldest", "test", "test"), strict=True):
            assert f"\n{package}=={version} " in locks[lock]


def test_a_broken_link_and_a_wrong_path_are_found() -> None:
    """The patterns above match what they should."""
    text = "[a](nowhere.md#x) [b](https://example.org) [c](#here) `suite/nothing.py` `fixtures/` `my_folder/x.py`"
    assert list(targets(text)) == ["nowhere.md"]
    assert NAMED.findall(text) == ["suite/nothing.py", "fixtures/"]
