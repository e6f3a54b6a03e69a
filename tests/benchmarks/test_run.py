"""A run of the benchmarks, as a user starts it: the reference beside a subject that is fast and wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.cells.cells import LOADS
from benchmarks.results.validity import check_file, valid_cells

ROOT = Path(__file__).parents[2]
HARNESS = Path(__file__).with_name("skipping_harness.py")
WRONG = "skipping"


class Run(NamedTuple):
    status: int
    printed: str
    file: Path

    def cell(self, operation: str, subject: str = WRONG) -> dict[str, Any]:
        cells = json.loads(self.file.read_text())["cells"]
        return next(cell for cell in cells if (cell["operation"], cell["subject"]) == (operation, subject))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_benchmarks(tmp_path_factory.mktemp("run"), "--only", "load", "--subject", str(HARNESS))


def run_benchmarks(folder: Path, *arguments: str) -> Run:
    """Run at size tiny, with everything that it writes in `folder`."""
    folders = ["--checkpoints", str(folder / "checkpoints"), "--results", str(folder / "results")]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--size", "tiny", *arguments, *folders],
        cwd=ROOT,
        # pytest's variables would mark a worker of this test run, where nothing is timed.
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
    )
    files = list((folder / "results").rglob("*.json"))
    assert len(files) == 1, ended.stdout + ended.stderr
    return Run(ended.returncode, ended.stdout, files[0])


def test_loads_of_the_reference_count(run: Run) -> None:
    counted = {cell["operation"] for cell in valid_cells(json.loads(run.file.read_text()))}
    assert counted == set(LOADS)


@pytest.mark.parametrize("operation", ["restore", "inference"])
def test_a_fast_loader_that_skips_a_leaf_is_invalid(run: Run, operation: str) -> None:
    problems = [problem for problem in check_file(run.file) if problem.invalid and operation in problem.cell]
    assert [(problem.subject, "mlp/linear" in problem.text) for problem in problems] == [(WRONG, True)]
    assert run.cell(operation)["outcome"] == "measured"


def test_too_little_memory_is_a_result(run: Run) -> None:
    cell = run.cell("lora_state")
    assert (cell["outcome"], cell["samples"]) == ("out_of_memory", [])
    assert "9 exabytes" in cell["reason"]


def test_a_failure_is_recorded_with_its_reason(run: Run) -> None:
    cell = run.cell("paligemma_state")
    assert cell["outcome"] == "failed"
    assert "no such thing as a float32 PaliGemma" in cell["reason"]


def test_an_operation_that_a_subject_lacks_is_absent(run: Run) -> None:
    cell = run.cell("hugging_face_state")
    assert (cell["outcome"], cell["reason"]) == ("absent", f"{WRONG} does not offer hugging_face_state")


def test_the_run_fails_and_its_table_says_why(run: Run) -> None:
    assert run.status == 1
    assert "invalid" in run.printed
    assert "out of memory" in run.printed


def test_no_folder_of_this_machine_is_in_the_file(run: Run) -> None:
    assert str(Path.home()) not in run.file.read_text()
    assert str(run.file.parents[2]) not in run.file.read_text()


def test_cold_loads_of_every_layout_prove_it(tmp_path: Path) -> None:
    """Cold loads read from the disk; in a folder in memory, none counts."""
    run = run_benchmarks(tmp_path, "--cold", "--only", "cold")
    cells = json.loads(run.file.read_text())["cells"]
    assert {cell["operation"] for cell in cells} == set(LOADS)
    from_disk = [sample["disk_bytes"] for cell in cells for sample in cell["samples"]]
    if any(from_disk):
        assert run.status == 0, run.printed
    else:
        assert "choose a folder on a disk for --checkpoints" in " ".join(run.printed.split())
