"""Runs of the gate, as a user starts it: on a loader of a few lines and on the reference, with planted mistakes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
TOY = Path(__file__).with_name("toy_harness.py")
LOAD, STEP = "load/paligemma_state/mini/warm", "step/train_step/mini/lora/batch-1"
# Mistakes by name: the cell, the metrics that reveal it, and the replacements of text that plant it.
COUNTED = {
    "float32_detour": (LOAD, ["bytes_allocated"], [("= stored.astype(", "= np.array(stored, np.float32).astype(")]),
    "copy_of_8_mb": (LOAD, ["bytes_allocated"], [("    half =", "    np.ones(1 << 20, np.float64)\n    half =")]),
    "file_read_twice_and_wrong_dtype": (
        LOAD,
        ["bytes_read", "result"],
        [
            ("stored = archive[name]", "stored = archive[name] if archive[name] is not None else 0"),
            ("jnp.asarray(half)", "jnp.asarray(half if name < 'params/llm/l' else stored)"),
        ],
    ),
    "lost_donation_more_work_and_recompiling": (
        STEP,
        ["alias_bytes", "flops", "compiles_again"],
        [
            (", donate_argnums=0", ""),
            ("lambda w: jnp", "lambda w: jnp.sum(jnp.tanh(w @ w.T)) * 0 + jnp"),
            ("TRAITS = ()", "import itertools\nTRAITS, LENGTHS = (), itertools.count(100)"),
            ("(weights, inputs),", "(weights, jnp.ones((next(LENGTHS), 64))),"),
        ],
    ),
}


class Run(NamedTuple):
    """Result of a run of the gate."""

    status: int
    printed: str
    report: Mapping[str, Any]

    def verdicts(self, *wanted: str) -> set[tuple[str, str]]:
        """Return cell and metric of all findings with one of the given verdicts."""
        return {
            (finding["cell"], finding["metric"]) for finding in self.report["findings"] if finding["verdict"] in wanted
        }


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


def gate(folder: Path, checkpoints: Path, *arguments: str) -> Run:
    """Run the gate in its own process."""
    folders = ["--checkpoints", str(checkpoints), "--results", str(folder)]
    summary = {"GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.gate", "--skip-contracts", *folders, *arguments],
        cwd=ROOT,
        env=os.environ | summary,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (folder / "gate.json").is_file(), ended.stderr
    report = json.loads((folder / "gate.json").read_text())
    assert report["outcome"] in (folder / "summary.md").read_text()
    return Run(ended.returncode, ended.stdout, report)


def toy(folder: Path, *planted: tuple[str, str]) -> Path:
    """Write a checkout of the toy with replacements in its text."""
    source = TOY.read_text()
    for old, new in planted:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    (folder / "toy").mkdir(parents=True)
    (folder / "toy" / "harness.py").write_text(source)
    return folder


def compare(folder: Path, checkpoints: Path, baseline: Path, candidate: Path, *arguments: str) -> Run:
    sides = ["--baseline", str(baseline), "--candidate", str(candidate)]
    return gate(folder, checkpoints, "--subject", str(candidate / "toy" / "harness.py"), *sides, *arguments)


@pytest.mark.parametrize(("cell", "metrics", "planted"), COUNTED.values(), ids=COUNTED)
def test_a_worse_count_fails_with_its_name(
    tmp_path: Path, checkpoints: Path, cell: str, metrics: list[str], planted: list[tuple[str, str]]
) -> None:
    sides = toy(tmp_path / "old"), toy(tmp_path / "new", *planted)
    run = compare(tmp_path, checkpoints, *sides, "--only", cell)
    assert {(cell, metric) for metric in metrics} <= run.verdicts("regressed"), run.printed
    assert run.status == 1
    # A cell that fails by its counts is not timed.
    assert (cell, "wall_s") not in run.verdicts("same", "regressed", "inconclusive")


def test_less_is_an_improvement(tmp_path: Path, checkpoints: Path) -> None:
    cell, _, planted = COUNTED["float32_detour"]
    sides = toy(tmp_path / "old", *planted), toy(tmp_path / "new")
    run = compare(tmp_path, checkpoints, *sides, "--only", cell, "--minutes", "0")
    assert (cell, "bytes_allocated") in run.verdicts("improved")
    # Without time for pairs the result is inconclusive, which is no failure unless requested.
    assert ((cell, "cpu_s") in run.verdicts("inconclusive"), run.status) == (True, 0)
    assert run.report["outcome"] == "inconclusive"


def test_the_same_loader_passes(tmp_path: Path, checkpoints: Path) -> None:
    run = compare(tmp_path, checkpoints, toy(tmp_path / "old"), toy(tmp_path / "new"), "--minutes", "1")
    assert not run.verdicts("regressed", "error", "unstable"), run.printed
    assert {(LOAD, "result"), (LOAD, "bytes_allocated"), (STEP, "losses"), (STEP, "temp_bytes")} <= run.verdicts("same")
    # Both sides compile the same step, so it is not timed.
    assert (STEP, "cpu_s") in run.verdicts("skipped")
    assert run.status == 0


@pytest.mark.undisturbed
def test_busy_work_fails(tmp_path: Path, checkpoints: Path) -> None:
    sides = toy(tmp_path / "old"), toy(tmp_path / "new", ("0.0 *", "0.15 *"))
    # The time suffices for two looks, or for one that is not confirmed.
    run = compare(tmp_path, checkpoints, *sides, "--only", LOAD, "--minutes", "2")
    assert (LOAD, "cpu_s") in run.verdicts("regressed"), run.printed
    assert run.status == 1


def test_a_renamed_operation_is_an_error(tmp_path: Path, checkpoints: Path) -> None:
    sides = toy(tmp_path / "old"), toy(tmp_path / "new", ("def bench_paligemma_state", "def paligemma_state"))
    run = compare(tmp_path, checkpoints, *sides)
    assert ((LOAD, "cell") in run.verdicts("error"), run.status) == (True, 2)
    assert "does not offer paligemma_state" in run.printed


def test_a_cell_that_fails_is_an_error(tmp_path: Path, checkpoints: Path) -> None:
    sides = toy(tmp_path / "old"), toy(tmp_path / "new", ("stored = archive[name]", "stored = archive[name, 0]"))
    run = compare(tmp_path, checkpoints, *sides, "--only", LOAD)
    assert ((LOAD, "cell") in run.verdicts("error"), run.status) == (True, 2)
    assert "the candidate failed" in run.printed


def test_a_cell_that_the_candidate_does_not_know_is_an_error(tmp_path: Path, checkpoints: Path) -> None:
    for folder in ("benchmarks", "fixtures", "pi0_compat", "suite"):
        shutil.copytree(ROOT / folder, tmp_path / "old" / folder, ignore=shutil.ignore_patterns("contracts"))
    file = tmp_path / "old" / "benchmarks" / "cells" / "cells.py"
    file.write_text(file.read_text().replace('"inference": "openpi"', '"serving": "openpi"'))
    run = gate(tmp_path, checkpoints, "--baseline", str(tmp_path / "old"), "--only", LOAD)
    assert (("load/serving/mini/warm", "cell") in run.verdicts("error"), run.status) == (True, 2)


@pytest.mark.parametrize("only", ["load/restore", "no such cell"])
def test_nothing_measured_is_an_error(tmp_path: Path, checkpoints: Path, only: str) -> None:
    side = toy(tmp_path / "toy")
    run = compare(tmp_path, checkpoints, side, side, "--only", only)
    assert (run.status, "no cell to compare" in run.printed) == (2, True)


def test_a_subject_that_cannot_be_imported_is_an_error(tmp_path: Path, checkpoints: Path) -> None:
    run = compare(tmp_path, checkpoints, toy(tmp_path / "old"), toy(tmp_path / "new", ("import time", "import tme")))
    assert (run.status, "No module named 'tme'" in run.printed) == (2, True)


@pytest.mark.parametrize(
    ("baseline", "message"),
    [(["--baseline", "no-such-revision"], "no-such-revision is no folder"), ([], "no baseline")],
    ids=["unknown", "none"],
)
def test_no_baseline_is_an_error(tmp_path: Path, checkpoints: Path, baseline: list[str], message: str) -> None:
    run = gate(tmp_path, checkpoints, "--subject", str(TOY), *baseline)
    assert (run.status, message in run.printed) == (2, True)


def test_the_reference_of_another_checkout_is_measured(tmp_path: Path, checkpoints: Path) -> None:
    shutil.copytree(ROOT / "pi0_compat", tmp_path / "new" / "pi0_compat")
    file = tmp_path / "new" / "pi0_compat" / "loading" / "match.py"
    old = "source.read(path, expected[path].dtype)"
    assert file.read_text().count(old) == 1
    file.write_text(file.read_text().replace(old, "source.read(path)"))
    run = gate(tmp_path, checkpoints, "--baseline", "HEAD", "--candidate", str(tmp_path / "new"), "--only", LOAD)
    assert (LOAD, "bytes_allocated") in run.verdicts("regressed"), run.printed
    assert (LOAD, "result") in run.verdicts("same")
    assert run.status == 1
