"""A silent failure becomes a script that shows it without this project; what is not silent does not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suite.reproduce import toy_subject

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy implementation, its harness, its template and its laws."""
    folder = tmp_path_factory.mktemp("toy")
    for name, text in (
        ("package/toy_reader.py", toy_subject.IMPLEMENTATION),
        ("toy.py", toy_subject.HARNESS),
        ("template.py", toy_subject.TEMPLATE),
        ("laws/test_toy.py", toy_subject.LAWS),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def run(toy: Path, *command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a Python command that finds the toy implementation."""
    environment = os.environ | {"PYTHONPATH": str(toy / "package")}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def reproduce(toy: Path, law: str, out: Path) -> subprocess.CompletedProcess[str]:
    """Run the command for a law of the toy."""
    options = ("--template", str(toy / "template.py"), "--contracts", str(toy / "laws"), "--out", str(out))
    return run(toy, "-m", "suite.reproduce", str(toy / "toy.py"), law, *options)


def test_wrong_values_become_a_script_that_shows_them(toy: Path, tmp_path: Path) -> None:
    """In a plain process elsewhere it prints the wrong value and the right one, and fails until the bug is gone."""
    result = reproduce(toy, "toy.numbers_come_back[5]", tmp_path / "out")
    assert result.returncode == 0, result.stdout + result.stderr
    shown = run(toy, "reproduce.py", cwd=tmp_path / "out")
    assert (shown.returncode, shown.stderr) == (1, "")
    assert shown.stdout.splitlines() == ["wrong: w[0] is 2.0", "right: w[0] is 1.0", "1 of 1 arrays are wrong"]

    script = (tmp_path / "out/reproduce.py").read_text()
    assert "suite" not in script
    assert "unneeded" not in script
    assert str(tmp_path) not in script + (tmp_path / "out/issue.md").read_text()
    assert len(script.splitlines()) <= 60
    reader = toy / "package/toy_reader.py"
    fixed = tmp_path / "fixed"
    fixed.mkdir()
    (fixed / "toy_reader.py").write_text(reader.read_text().replace("*= 2", "*= 1"))
    environment = os.environ | {"PYTHONPATH": str(fixed)}
    assert subprocess.run([sys.executable, tmp_path / "out/reproduce.py"], env=environment, check=False).returncode == 0


def test_the_issue_says_what_was_seen_with_which_versions(toy: Path, tmp_path: Path) -> None:
    """The Markdown has the output, the law, and the versions; facts.json has them for lists."""
    assert reproduce(toy, "toy.numbers_come_back[3]", tmp_path / "out").returncode == 0
    issue, facts = (tmp_path / "out/issue.md").read_text(), json.loads((tmp_path / "out/facts.json").read_text())
    for text in ("wrong: w[0] is 2.0", "What is read is what was written.", "* toy 1.5", "toy.numbers_come_back[3]"):
        assert text in issue
    assert (facts["subject"], facts["law"]) == ("toy", "toy.numbers_come_back[3]")
    assert facts["printed"][0] == "wrong: w[0] is 2.0"


def test_an_accepted_file_becomes_a_script_that_shows_what_is_in_the_model(toy: Path, tmp_path: Path) -> None:
    """It says that no error came, which one should have come, and what became of the file's numbers."""
    result = reproduce(toy, "toy.codes_are_refused", tmp_path / "out")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = run(toy, "reproduce.py", cwd=tmp_path / "out").stdout.splitlines()
    assert lines == [
        "wrong: load raises no error",
        "right: an error that names b, int8",
        "wrong: b is -9.0, in the file -9 (int8)",
    ]


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("toy.good", "passes: there is no failure to show"),
        ("toy.crash", "is not silent but crash"),
        ("toy.sum_is_right", "fails in an assertion of its own"),
        ("toy.mean_is_right", "compares values that no call of the subject returned (mean)"),
        ("toy.anything_is_refused", "the template of toy has no call for param_spec"),
        ("toy.numbers_come_back[4]", "did you mean toy.numbers_come_back["),
        ("safety.anything", "a check of security is told in words"),
    ],
)
def test_what_cannot_become_a_script_says_why(toy: Path, tmp_path: Path, law: str, message: str) -> None:
    """One line names the law, the subject, and what is missing; nothing is written."""
    result = reproduce(toy, law, tmp_path / "out")
    last = result.stderr.splitlines()[-1]
    assert result.returncode == 1
    assert last.startswith(f"error: {law} of ")
    assert message in last
    assert not (tmp_path / "out").exists()


def test_a_subject_without_a_template_is_told_of_the_option(toy: Path, tmp_path: Path) -> None:
    """The message says what a template is, which there are, and how to give one."""
    result = run(toy, "-m", "suite.reproduce", str(toy / "toy.py"), "toy.good", "--out", str(tmp_path / "out"))
    assert result.returncode == 1
    assert "there is no template for toy" in result.stderr
    assert "lerobot" in result.stderr
    assert "--template FILE" in result.stderr
