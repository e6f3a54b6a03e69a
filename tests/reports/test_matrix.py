# ruff: noqa: RUF001 - an en dash
"""The pages generated from result files: the table of areas, the page of all contracts, the command."""

from pathlib import Path

import pytest

from reports.__main__ import MATRIX, main
from reports.read.contract_runs import ContractRun, read_run
from reports.read.subject_columns import columns
from tests.reports import toy_project
from tests.reports.toy_runs import Json, header, row, subject, write, write_run

RESULTS, PAGE = Path("reports/compat"), Path("reports/matrix.md")
OLD, NEW, LATER = (f"2026-11-{day}T04:00:00+00:00" for day in (20, 22, 23))
ABSENT = {"message": "does not declare save"}
ROWS = [
    row("load.is_whole", case="a"),
    row("load.is_whole", "known", case="b", severity="unclear"),
    row("load.is_whole", "known", case="c", severity="unclear"),
    row("load.is_quiet", "fail", message="expected a | b\n found <c>"),
    row("load.is_fast", case="a"),
    row("load.is_fast", "absent", case="b", **ABSENT),
    row("save.is_whole", "absent", **ABSENT),
    *(row(name, subject="reference") for name in ("load.is_whole", "load.is_quiet", "save.is_whole")),
    row("save.is_whole", "unavailable", subject="lost", message="unavailable: no such *interpreter*"),
]
LOST = {"name": "lost", "capabilities": [], "unavailable": "no such *interpreter*"}
HEAD = header(subject(), subject("reference", None), LOST, git={"commit": "0123456789" * 4, "dirty": True})

GOLDEN_MATRIX = r"""# Results

<!-- matrix -->
Passing cases of those that ran (–: none ran). The result of every contract, and the reasons of `known`
failures, are in [matrix.md](../reports/matrix.md).

| area    | reference | lost            | toy 1.2                         |
| ------- | --------- | --------------- | ------------------------------- |
| load    | 2/2       | unavailable (1) | 2/5, 2 known, 1 fail (1 silent) |
| save    | 1/1       | unavailable (1) | –                               |
| **all** | 3/3       | unavailable (1) | 2/5, 2 known, 1 fail (1 silent) |

(1) lost was unavailable: no such \*interpreter\*

* 2026-11-22, Python 3.11.7, Linux x86_64, commit 0123456 with local changes, \
[toys.jsonl](../reports/compat/toys.jsonl): \
reference (numpy 2.1); lost (unavailable); toy 1.2 (numpy 2.1)
<!-- /matrix -->

The end.
""".replace("\\\n", "")

GOLDEN_PAGE = r"""
## load

| contract        | reference | lost | toy 1.2   | law              |
| --------------- | --------- | ---- | --------- | ---------------- |
| `load.is_fast`  | –         | –    | pass 1/2  | A load is fast.  |
| `load.is_quiet` | pass      | –    | fail      | A load is quiet. |
| `load.is_whole` | pass      | –    | known 2/3 | A load is whole. |

## save

| contract        | reference | lost        | toy 1.2 | law              |
| --------------- | --------- | ----------- | ------- | ---------------- |
| `save.is_whole` | pass      | unavailable | absent  | A save is whole. |

## Known failures

### toy 1.2

* **unclear**: `load.is_whole`, 2 of 3 cases (b, c): It sums over the wrong heads. (the implementation is at fault, \
[link](https://example.org/issues/1))

## Other failures

### toy 1.2

* **silent**: `load.is_quiet`: fail: expected a | b found &lt;c&gt;

## Not run

### lost

* 1 case: unavailable: no such \*interpreter\*

### toy 1.2

* 2 cases: does not declare save
""".replace("\\\n", "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a project with its pages and one results file."""
    write_run(tmp_path / RESULTS / "toys.jsonl", HEAD, *ROWS)
    toy_project.write_marked(tmp_path)
    return tmp_path


def read(root: Path, page: Path) -> str:
    return (root / page).read_text(encoding="utf-8")


def test_the_table_has_areas_by_subjects(root: Path) -> None:
    """The table has the passed share of the cases that ran, other outcomes, and where they ran; other text stays."""
    assert main([], root) == 0
    assert read(root, MATRIX) == GOLDEN_MATRIX


def test_the_page_has_contracts_by_subjects(root: Path) -> None:
    """The page has the worst outcome with its share of the cases, laws, and known and other failures with reasons."""
    main([], root)
    assert read(root, PAGE).partition("| not rated | the run is older than severities |\n")[2] == GOLDEN_PAGE


def test_silent_failures_come_first(tmp_path: Path) -> None:
    """Known failures are listed from silent to unclear, and those of an older file as not rated."""
    rows = [row(f"load.{name}", "known", severity=name) for name in ("unclear", "crash", "silent")]
    old = {key: value for key, value in row("save.old", "known").items() if key not in ("severity", "raised", "needs")}
    for name, each in (("toys", rows), ("older", [old | {"subject": "older"}])):
        head = header(subject(name if name == "older" else "toy"), schema_version=2 - (name == "older"))
        write_run(tmp_path / RESULTS / f"{name}.jsonl", head, *each)
    toy_project.write_marked(tmp_path)
    assert main([], tmp_path) == 0
    listed = [line.split(":")[0] for line in read(tmp_path, PAGE).splitlines() if line.startswith("* **")]
    assert listed == ["* **not rated**", "* **silent**", "* **crash**", "* **unclear**"]
    readme = read(tmp_path, Path("README.md"))
    assert "| 1 silent, 1 crash, 1 unclear |" in readme
    assert "| 1 not rated " in readme


def test_check_finds_what_is_old(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` writes nothing, names each page that differs from the files, and succeeds after a run."""
    assert main(["--check"], root) == 1
    assert not (root / PAGE).exists()
    named = [line.split(" ")[1] for line in capsys.readouterr().err.splitlines()]
    assert {"README.md", "docs/results.md", "reports/index.html", "reports/matrix.md"} <= set(named)
    main([], root)
    assert main(["--check"], root) == 0
    (root / PAGE).write_text(read(root, PAGE).replace("pass", "fail"), encoding="utf-8")
    assert main(["--check"], root) == 1


def test_the_same_files_give_the_same_bytes(root: Path) -> None:
    main([], root)
    first = [(root / page).read_bytes() for page in (MATRIX, PAGE)]
    main([], root)
    assert [(root / page).read_bytes() for page in (MATRIX, PAGE)] == first


@pytest.mark.parametrize("wrong", ["truncated", "no marker", "no files"])
def test_nothing_is_written_from_invalid_files(root: Path, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A truncated file, a page without a marker and no files at all are errors that leave the pages alone."""
    if wrong == "truncated":
        write(root / RESULTS / "more.jsonl", HEAD, *ROWS)
    elif wrong == "no marker":
        (root / MATRIX).write_text("# Results\n", encoding="utf-8")
    else:
        (root / RESULTS / "toys.jsonl").unlink()
    before = read(root, MATRIX)
    assert main([], root) == 2
    assert (read(root, MATRIX), (root / PAGE).exists()) == (before, False)
    expected = {"truncated": "more.jsonl:13: expected a footer", "no marker": "<!-- matrix -->", "no files": "none"}
    assert expected[wrong] in capsys.readouterr().err


def test_of_several_runs_the_newest_comes_first_and_states_the_laws(root: Path) -> None:
    """The newest run decides the order of runs and columns, and the wording of the laws."""
    later = row("load.is_whole", "unavailable", law="Newer law.", subject="a"), row("load.is_quiet", subject="a")
    write_run(root / RESULTS / "later.jsonl", header(subject("a"), started=LATER), *later)
    main([], root)
    lines = read(root, MATRIX).splitlines()
    assert [line[:21] for line in lines if line.startswith("* ")] == ["* 2026-11-23, Python ", "* 2026-11-22, Python "]
    assert "Newer law." in read(root, PAGE)
    assert "A load is whole." not in read(root, PAGE)
    assert next(line for line in lines if line.startswith("| load")).split(" | ")[2].strip() == "1/1"


def run(folder: Path, name: str, started: str, *subjects: Json) -> ContractRun:
    return read_run(write_run(folder / name, header(*subjects, started=started)))


def test_the_newest_run_of_a_version_wins(tmp_path: Path) -> None:
    """The newest run is the one started last, whatever the file's name and the order of reading."""
    runs = [run(tmp_path, "a.jsonl", NEW, subject()), run(tmp_path, "b.jsonl", OLD, subject(), subject("other"))]
    for order in (runs, runs[::-1]):
        assert [(c.title, c.run.file.name) for c in columns(order)] == [
            ("other 1.2", "b.jsonl"),
            ("toy 1.2", "a.jsonl"),
        ]


def test_columns_are_in_order(tmp_path: Path) -> None:
    """The reference and its variants come first, then names in order, and versions by their numbers."""
    versions = [subject("toy", number) for number in ("5.14", "5.9", "15a9616")]
    runs = [run(tmp_path, f"{version['version']}.jsonl", NEW, version) for version in versions]
    runs.append(
        run(tmp_path, "r.jsonl", OLD, subject("a"), subject("reference:bf16", None), subject("reference", None))
    )
    titles = ["reference", "reference:bf16", "a 1.2", "toy 5.9", "toy 5.14", "toy 15a9616"]
    assert [column.title for column in columns(runs)] == titles


def test_a_subject_with_a_result_is_not_unavailable(tmp_path: Path) -> None:
    """A later run that could not start the subject adds no result."""
    complete = run(tmp_path, "a.jsonl", OLD, subject("lost", "2"))
    incomplete = run(tmp_path, "b.jsonl", NEW, LOST)
    assert [column.title for column in columns([complete, incomplete])] == ["lost 2"]
    assert [column.unavailable for column in columns([incomplete])] == ["no such *interpreter*"]


def test_the_committed_pages_are_what_the_files_say() -> None:
    """``nox -s report`` writes these pages."""
    assert main(["--check"]) == 0
