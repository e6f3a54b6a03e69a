"""The pages as a whole: reproducible, all or none written, safe with hostile input, every number with its file."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from reports.__main__ import main, pages
from reports.read.sources import read_sources
from tests.reports import toy_benchmarks, toy_project

FIGURE = re.compile(r'<a class="n" href="([^"]*)" title="([^"]*)" data-file="([^"]*)" data-place="([^"]*)">(.*?)</a>')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return toy_project.make(tmp_path)


@pytest.fixture
def html(root: Path) -> str:
    return text(root, "index.html")


def text(root: Path, name: str) -> str:
    written = pages(root)[Path("reports") / name]
    assert written is not None
    return written


def test_all_pages_are_written(root: Path) -> None:
    """Written are the page, its Markdown twin with pictures, the matrix, the table as CSV, and parts of other pages."""
    assert main([], root) == 0
    files = {file.relative_to(root / "reports").as_posix() for file in (root / "reports").rglob("*") if file.is_file()}
    assert {"index.html", "README.md", "matrix.md", "summary.csv", "pictures/stages.svg", "pictures/steps.svg"} <= files
    for name, part in (
        ("README.md", "| reference "),
        ("docs/results.md", "| **all** "),
        ("docs/benchmarks.md", "load/lora_state/small/warm"),
    ):
        assert part in (root / name).read_text(encoding="utf-8")
    assert main(["--check"], root) == 0


def test_the_same_files_give_the_same_bytes(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The order in which the files were written does not matter."""
    again = tmp_path_factory.mktemp("again")
    toy_project.write_marked(again)
    toy_project.write_result(again, toy_project.other_machine())
    toy_project.write_museum(again)
    toy_project.write_result(again, toy_benchmarks.result())
    toy_project.write_contracts(again)
    assert pages(again) == pages(root)


@pytest.mark.parametrize("name", ["index.html", "README.md", "summary.csv", "pictures/memory.svg"])
def test_check_finds_every_outdated_page(root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([], root)
    (root / "reports" / name).write_text("old", encoding="utf-8")
    assert main(["--check"], root) == 1
    expected = f"error: reports/{name} is outdated: it does not match the files in reports/; run nox -s report"
    assert expected in capsys.readouterr().err
    assert (root / "reports" / name).read_text(encoding="utf-8") == "old"


def test_an_outdated_picture_is_removed(root: Path) -> None:
    left = root / "reports" / "pictures" / "left.svg"
    main([], root)
    left.write_text("<svg/>", encoding="utf-8")
    assert main(["--check"], root) == 1
    assert left.exists()
    assert main([], root) == 0
    assert not left.exists()


@pytest.mark.parametrize(
    "name", ["compat/toys.jsonl", "faults.jsonl", "results/cpu-2-core-toy/2026-11-22T080000Z-1a2b3c4.json"]
)
def test_a_truncated_file_is_named_and_nothing_is_written(
    root: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "reports" / name
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole[: len(whole) * 2 // 3], encoding="utf-8")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert main([], root) == 2
    assert str(file) in capsys.readouterr().err
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_mixed_files_are_rejected(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs in one file, a museum in place of a run, and a result of another program are each rejected."""
    file = root / "reports" / "compat" / "mixed.jsonl"
    file.write_text((root / "reports" / "compat" / "toys.jsonl").read_text(encoding="utf-8") * 2, encoding="utf-8")
    assert main([], root) == 2
    file.write_text((root / "reports" / "faults.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    assert main([], root) == 2
    file.unlink()
    (root / "reports" / "results" / "other.json").write_text(json.dumps({"benchmarks": []}), encoding="utf-8")
    assert main([], root) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert "mixed.jsonl:11: expected the end of the file, found kind header" in first
    assert "mixed.jsonl:1: header" in second
    assert "other.json: expected a result of python -m benchmarks" in third


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"caught": 1}, "4: expected 2 rows, 1 caught, as the footer says, found 2 rows, 2 caught"),
        ({"names": ("met", "met")}, "3: expected every fault once, found met, which line 2 has already"),
        ({"passed": "all"}, "2: row.passed: 'all' is not of type 'integer'"),
    ],
)
def test_an_inconsistent_museum_is_rejected(
    root: Path, changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_project.write_museum(root, **changes)
    assert main([], root) == 2
    assert f"faults.jsonl:{message}" in capsys.readouterr().err


def test_text_from_outside_is_escaped(html: str, root: Path) -> None:
    """Markup in a message, a law, a version, a story or a link is shown as text and does not run."""
    assert "<img" not in html
    assert html.count("<script") == 2
    assert "javascript:" not in re.findall(r'href="([^"]*)"', html)
    assert not [url for url in re.findall(r'href="([^"]*)"', html) if url.startswith("javascript")]
    assert "<script" not in text(root, "README.md") + text(root, "matrix.md")


def test_the_page_needs_no_network(html: str) -> None:
    """The page contains everything that it loads."""
    assert not re.findall(r'(?:src|srcset|data|action)="[^"]+"', re.sub(r'data-\w+="[^"]*"', "", html))
    assert not re.findall(r'<link rel="(?!icon)|@import|url\(', html)
    assert "default-src 'none'" in html


def test_every_number_names_a_file_and_a_place_in_it(html: str, root: Path) -> None:
    """The file exists and contains the cell and the subject, or rows of the subject."""
    figures = FIGURE.findall(html)
    assert len(figures) > 10
    for href, title, file, place, shown in figures:
        content = (root / "reports" / href).read_text(encoding="utf-8")
        assert href.endswith(file)
        assert title.startswith(f"{file}: {place}: ")
        for name in place.removeprefix("rows of ").replace("all rows", '"row"').split(", "):
            assert name in content, (place, shown)


def test_every_line_of_the_table_is_a_cell_of_its_file(root: Path) -> None:
    """The numbers in ``summary.csv`` are those of the named cell."""
    lines = list(csv.DictReader(io.StringIO(text(root, "summary.csv"))))
    assert len(lines) == 16
    for line in lines:
        result = json.loads((root / "reports" / "results" / line["file"]).read_text(encoding="utf-8"))
        (cell,) = [cell for cell in result["cells"] if (cell["id"], cell["subject"]) == (line["cell"], line["subject"])]
        times = sorted(sample["wall_s"] for sample in cell["samples"])
        assert float(line["step_time_s"]) == pytest.approx((times[5] + times[6]) / 2)
        assert (int(line["samples"]), int(line["processes"])) == (12, 3)
        assert float(line["host_peak_bytes"]) == 500_000_000
        if line["workload"] == "step":
            assert float(line["samples_per_sec"]) == pytest.approx(2 / float(line["step_time_s"]))


def test_counts_are_those_of_the_rows(root: Path, html: str) -> None:
    """Counts of laws, subjects and faults, and of passed and run cases, match the rows."""
    shown = [figure[4] for figure in FIGURE.findall(html)]
    assert shown[:5] == ["3", "2", "2", "1", "2"]
    reference, toy = read_sources(root / "reports").standings
    assert (reference.passed, reference.ran) == (3, 3)
    assert (toy.passed, toy.ran, toy.known, toy.failed) == (2, 4, 1, 1)
    assert toy.weakest == [("load", 2)]


def test_a_project_without_benchmarks_and_museum_has_a_page(root: Path) -> None:
    """A page without benchmarks and museum is still complete."""
    (root / "reports" / "faults.jsonl").unlink()
    for file in (root / "reports" / "results").rglob("*.json"):
        file.unlink()
    assert main([], root) == 0
    html = text(root, "index.html")
    assert "No benchmark has been run." in html
    assert 'id="museum"' not in html
