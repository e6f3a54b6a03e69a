"""The catalog of bugs is complete: every citation finds its row, every bug is explained, the page is current."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from suite.docs import bugs, contracts
from suite.docs.__main__ import PAGES, ROOT, main
from suite.docs.catalog import FILE, Catalog, cited_anchors, read_catalog
from suite.docs.laws import all_contracts
from suite.faults import all_faults
from suite.faults.fault import Fault
from suite.session.registry import Contract

# Ids without a link to the catalog: "bugs C1", "bugs rule 5", "(C1)", "(C1, P2; #648)". A reader cannot look these up.
BARE = re.compile(r"\bbugs? (?:[A-HP]\d{1,2}|rule \d)\b|\((?:[A-HP]\d{1,2}, )*[A-HP]\d{1,2}[;)]")
# A citation with an anchor of any form, even one that cited_anchors does not read.
LINKED = re.compile(r"\bbugs\.md#([^\s,;:)\"'`\]]+)")
FOLDERS = ("pi0_compat", "tests", "suite", "fixtures", "benchmarks", "reports", "docs", ".ci", ".github")
TEXTS = {".py", ".md", ".toml", ".html", ".yml", ".cff"}
# Data of runs, and pages generated from it, keep the words of the day they were written.
OF_RUNS = re.compile(r"reports/(?:index\.html|matrix\.md|README\.md)|.*\.jsonl")
ROW = """\
[areas]
A = "Arithmetic"
[[rule]]
id = 1
demand = "Compare."
why = "A1 was seen."
links = []
[[bug]]
id = "A1"
symptom = "It fails, as A2 does."
evidence = ["read"]
links = ["https://example.org/1"]
[[bug]]
id = "A2"
symptom = "It fails too."
evidence = ["read"]
links = ["https://example.org/2"]
not_rebuilt = "As A1."
"""


def texts() -> dict[str, str]:
    """Return every text file of the project by its path, except this test and the data of runs."""
    inside = (file for folder in FOLDERS for file in (ROOT / folder).rglob("*"))
    files = {file.relative_to(ROOT).as_posix(): file for file in [*ROOT.iterdir(), *inside] if file.suffix in TEXTS}
    return {
        name: file.read_text(encoding="utf-8")
        for name, file in files.items()
        if file.is_file() and file != Path(__file__) and not OF_RUNS.fullmatch(name)
    }


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return read_catalog()


@pytest.fixture
def file_of(tmp_path: Path) -> Callable[[str], Path]:
    """Write a catalog and return its file."""

    def write(text: str) -> Path:
        (file := tmp_path / "bugs.toml").write_text(text, encoding="utf-8")
        return file

    return write


def test_every_citation_has_a_row(catalog: Catalog) -> None:
    cited = {
        (name, anchor) for name, text in texts().items() for anchor in [*LINKED.findall(text), *cited_anchors(text)]
    }
    assert len(cited) > 100
    assert {(name, anchor) for name, anchor in cited if anchor not in catalog.anchors} == set()


def test_every_citation_is_a_link() -> None:
    """In the catalog itself the page turns ids into links."""
    citations = {name: sorted(set(BARE.findall(text))) for name, text in texts().items() if ROOT / name != FILE}
    assert {name: bare for name, bare in citations.items() if bare} == {}


def test_every_bug_of_a_fault_has_a_row(catalog: Catalog) -> None:
    assert {bug for fault in all_faults().values() for bug in fault.bugs} - catalog.bugs.keys() == set()


def test_every_bug_has_either_a_fault_or_a_reason(catalog: Catalog) -> None:
    rebuilt = {bug for fault in all_faults().values() for bug in fault.bugs}
    explained = {bug.id for bug in catalog.bugs.values() if bug.not_rebuilt}
    assert catalog.bugs.keys() - rebuilt - explained == set()
    assert rebuilt & explained == set()


def test_ids_of_an_area_have_no_gaps(catalog: Catalog) -> None:
    """Ids are cited forever, so a row that disappears is a mistake."""
    numbers = {letter: [int(id_[1:]) for id_ in catalog.bugs if id_[0] == letter] for letter in catalog.areas}
    assert numbers == {letter: [*range(1, len(area) + 1)] for letter, area in numbers.items()}
    assert all(numbers.values())
    assert [rule.id for rule in catalog.rules] == [*range(1, len(catalog.rules) + 1)]


def test_symptoms_are_unique(catalog: Catalog) -> None:
    assert len({bug.symptom for bug in catalog.bugs.values()}) == len(catalog.bugs)


def test_ids_in_texts_of_the_catalog_have_a_row(catalog: Catalog) -> None:
    texts_of_rows = [bug.symptom + bug.not_rebuilt for bug in catalog.bugs.values()] + [r.why for r in catalog.rules]
    named = {id_ for text in texts_of_rows for id_ in re.findall(r"\b[A-HP]\d{1,2}\b", text)}
    assert named - catalog.bugs.keys() == set()
    assert named


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name: str) -> None:
    """``python -m suite.docs`` writes it."""
    assert PAGES[name]() == (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("It fails too.", "", "A2 has no symptom"),
        ('["https://example.org/2"]', "[]", "A2 has no link"),
        ("https://example.org/2", "example.org/2", "A2 has no link, or one that is no URL"),
        (
            '["read"]\nlinks = ["https://example.org/2"]',
            '["heard"]\nlinks = ["https://example.org/2"]',
            "A2 has no evidence",
        ),
        ('id = "A2"', 'id = "B2"', "B2 has no area"),
        ('id = "A2"', 'id = "A1"', "more than one row for A1"),
    ],
)
def test_incomplete_row_is_rejected(file_of: Callable[[str], Path], old: str, new: str, message: str) -> None:
    assert ROW.count(old) == 1
    with pytest.raises(ValueError, match=f"^bugs.toml: {message}"):
        read_catalog(file_of(ROW.replace(old, new)))


def test_unknown_field_is_rejected(file_of: Callable[[str], Path]) -> None:
    with pytest.raises(TypeError, match="color"):
        read_catalog(file_of(f'{ROW}color = "red"\n'))


def test_page_joins_bugs_faults_and_contracts(file_of: Callable[[str], Path]) -> None:
    fault = Fault(id="first", story="It fails.", evidence="A line.", patches=(), caught_by=("load.x",), bugs=("A1",))
    sources = {"load.x": "docs/bugs.md#a1", "load.y": "RFC 1; docs/bugs.md#a1, #rule-1", "load.z": "RFC 1"}
    citing = [Contract(id=id_, law="It loads.", source=source, needs=()) for id_, source in sources.items()]
    text = bugs.render(read_catalog(file_of(ROW)), [fault], citing)
    assert "Of 2 bugs, 1 are rebuilt" in text
    assert "### Rule 1\n\nCompare.\n\n* Why: [A1](#a1) was seen.\n* Cited by [`load.y`](contracts.md#loady)\n" in text
    assert text.endswith("""\
## A: Arithmetic

### A1

It fails, as [A2](#a2) does.

* Evidence: read in the code, not run; [example.org/1](https://example.org/1)
* Rebuilt by the fault `first`, caught by [`load.x`](contracts.md#loadx)
* Also cited by [`load.y`](contracts.md#loady)

### A2

It fails too.

* Evidence: read in the code, not run; [example.org/2](https://example.org/2)
* Not rebuilt: As [A1](#a1).
""")


def anchors_of(text: str) -> list[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_links_lead_to_a_heading() -> None:
    text = bugs.page()
    pages = {"": text, "contracts.md": contracts.page()}
    linked = {name: set(re.findall(rf"\]\({name}#([^)]+)\)", text)) for name in pages}
    assert {name: linked[name] - set(anchors_of(page)) for name, page in pages.items()} == {
        "": set(),
        "contracts.md": set(),
    }
    assert all(linked.values())


def test_headings_are_unique() -> None:
    anchors = anchors_of(bugs.page())
    assert len(set(anchors)) == len(anchors)


def test_all_contracts_are_read() -> None:
    assert len(all_contracts()) > 150
    assert all(id_ == contract.id for id_, contract in all_contracts().items())


@pytest.mark.parametrize(
    ("text", "anchors"),
    [
        ("openpi #396; docs/bugs.md#a5, #g2; arXiv", ["a5", "g2"]),
        ("see [C18](../bugs.md#c18) and #12", ["c18"]),
        ("a line (docs/bugs.md#c2,\n        #c9)", ["c2", "c9"]),
        ("docs/bugs.md#rule-4", ["rule-4"]),
        ("docs/bugs.md and #12", []),
    ],
)
def test_citations_are_read(text: str, anchors: list[str]) -> None:
    assert cited_anchors(text) == anchors


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("issues/7", "openpi #7"),
        ("pull/7", "openpi #7"),
        ("commit/0123456789", "openpi 0123456"),
        ("blob/15a9616/src/openpi/models/lora.py#L67-L85", "openpi lora.py:67-85"),
        ("blob/15a9616/README.md", "openpi README.md"),
    ],
)
def test_links_have_a_short_text(path: str, text: str) -> None:
    assert bugs.label(f"https://github.com/Physical-Intelligence/openpi/{path}") == text


def test_check_names_stale_pages_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = {"old.md": lambda: "new\n", "current.md": lambda: "same\n", "missing.md": lambda: "text\n"}
    (tmp_path / "old.md").write_text("old\n")
    (tmp_path / "current.md").write_text("same\n")
    assert main(["--check"], pages=pages, root=tmp_path) == 1
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["old.md", "missing.md"]
    assert (tmp_path / "old.md").read_text() == "old\n"
    assert main([], pages=pages, root=tmp_path) == 0
    assert (tmp_path / "old.md").read_text() == "new\n"
    assert main(["--check"], pages=pages, root=tmp_path) == 0


def test_the_catalog_is_beside_its_page() -> None:
    assert FILE == ROOT / "docs" / "bugs.toml"
