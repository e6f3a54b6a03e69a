"""One file makes an implementation a subject of the contracts and of the benchmarks, as the template shows."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results.validity import valid_cells
from suite.session.find import find_subject

ROOT = Path(__file__).parents[2]


def test_the_same_file_is_tested_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter has a copy of the library and nothing else of this project."""
    shutil.copytree(ROOT / "pi0_compat", tmp_path / "copy" / "pi0_compat")
    shutil.copy(ROOT / "suite/subjects/template.py", tmp_path / "my_harness.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "copy"))
    asked_as = f"{tmp_path / 'my_harness.py'}={sys.executable}"
    subject = find_subject(asked_as)
    assert subject.restore(str(ROOT / "fixtures/golden/pi0_base/params"), "bfloat16").keys()
    subject.rest()
    command = [sys.executable, "-m", "benchmarks", "--size", "tiny"]
    cells = ["--only", "load/restore", "--only", "load/inference"]
    folders = ["--checkpoints", str(tmp_path / "checkpoints"), "--results", str(tmp_path / "results")]
    ended = subprocess.run(
        [*command, *cells, "--subject", asked_as, *folders],
        cwd=ROOT,
        # pytest's variables would mark a worker of this test run, where nothing is timed.
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [file] = (tmp_path / "results").rglob("*.json")
    result = json.loads(file.read_text())
    counted = [(cell["subject"], cell["operation"]) for cell in valid_cells(result)]
    assert ("template", "restore") in counted
    assert ("reference", "restore") in counted
    lacking = next(
        cell for cell in result["cells"] if (cell["subject"], cell["operation"]) == ("template", "inference")
    )
    assert (lacking["outcome"], lacking["reason"]) == ("absent", "template does not offer inference")
    assert str(tmp_path) not in file.read_text()
