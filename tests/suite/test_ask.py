"""What a fork's CI runs: `.ci/ask`, with a nox that only prints its arguments, and the workflows."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOX = """#!/bin/sh
echo "nox: $*"
echo "==== contracts ===="
echo "subject mine"
exit ${NOX_STATUS:-0}
"""


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    """Return the repository of a fork with a harness, an interpreter, known failures, and a nox on its path."""
    for name in ("ci/my_harness.py", "ci/my_harness.toml", ".venv/bin/python", "bin/nox"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(NOX if name.endswith("nox") else "")
    (tmp_path / "bin/nox").chmod(0o755)
    return tmp_path


def ask(fork: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{fork / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "GITHUB_STEP_SUMMARY": str(fork / "summary.md")} | variables
    command = [str(ROOT / ".ci/ask")]
    return subprocess.run(command, cwd=fork, env=environment, check=False, capture_output=True, text=True)


def test_paths_are_those_of_the_caller(fork: Path) -> None:
    """Harness, interpreter and expectations are relative to the caller's folder; other arguments are passed on."""
    completed = ask(
        fork,
        SUBJECT="ci/my_harness.py",
        SUBJECT_PYTHON=".venv/bin/python",
        EXPECTATIONS="ci/my_harness.toml",
        ARGUMENTS="-k lora",
    )
    subject = f"--subject {fork}/ci/my_harness.py={fork}/.venv/bin/python"
    expected = f"nox: -s compat -- {subject} --expectations {fork}/ci/my_harness.toml -k lora"
    assert (completed.returncode, completed.stdout.splitlines()[0]) == (0, expected)


def test_names_stay_names(fork: Path) -> None:
    """A subject or an interpreter that is no path in that folder is passed on as a name."""
    completed = ask(fork, SUBJECT="openpi", SUBJECT_PYTHON="python3.11")
    assert completed.stdout.splitlines()[0] == "nox: -s compat -- --subject openpi=python3.11"


def test_a_broken_contract_fails_the_job_and_is_in_its_summary(fork: Path) -> None:
    """The status is nox's, and the summary has the table anyway."""
    assert ask(fork, SUBJECT="openpi", SUBJECT_PYTHON="python3", NOX_STATUS="7").returncode == 7
    assert (fork / "summary.md").read_text() == "```\n==== contracts ====\nsubject mine\n```\n"


@pytest.mark.parametrize("missing", ["SUBJECT", "SUBJECT_PYTHON"])
def test_a_missing_variable_is_named(fork: Path, missing: str) -> None:
    """Nothing runs without a subject or an interpreter."""
    given = {"SUBJECT": "openpi", "SUBJECT_PYTHON": "python3"} | {missing: ""}
    completed = ask(fork, **given)
    assert completed.returncode != 0
    assert f"{missing}:" in completed.stderr
    assert "nox:" not in completed.stdout


@pytest.mark.parametrize(
    ("name", "more"), [("compat.yml", {"expectations"}), ("gate.yml", set[str]())], ids=["compat", "gate"]
)
def test_the_workflow_passes_every_input(name: str, more: set[str]) -> None:
    """Each input of the workflow is used, and no input is pasted into a shell."""
    workflow = (ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8")
    inputs = re.findall(r"^      (\w+):\n        description", workflow, flags=re.MULTILINE)
    assert {"subject", "python", "setup", "arguments", "ref", "repository"} | more == set(inputs)
    assert set(re.findall(r"inputs\.(\w+)", workflow)) == set(inputs)
    # Every input is a setting or a condition of its own, and appears nowhere else.
    used = [line.strip() for line in workflow.splitlines() if "inputs." in line]
    assert all(re.fullmatch(r"\w+: \$\{\{ inputs\.\w+ \}\}|if: inputs\.setup != ''", line) for line in used)
