"""The two sides of a gate: what each way to name one gives, and the error where it does not exist."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gate import sides
from benchmarks.gate.sides import NoSideError, Side, baseline_revision, side_of, working_tree
from benchmarks.measure.process import ROOT


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with two commits on main, which replaces this project's."""
    monkeypatch.setattr(sides, "ROOT", tmp_path)
    for command in (["init", "-q", "-b", "main"], ["config", "user.email", "a@b"], ["config", "user.name", "a"]):
        git(tmp_path, *command)
    for text in ("first", "second"):
        commit(tmp_path, text)
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, text: str) -> str:
    (folder / "file").write_text(text)
    git(folder, "add", "file")
    git(folder, "commit", "-q", "-m", text)
    return git(folder, "rev-parse", "HEAD")


def test_a_revision_is_a_temporary_worktree(repository: Path) -> None:
    with side_of("HEAD^") as side:
        assert (side.tree / "file").read_text() == "first"
        assert side.label == git(repository, "rev-parse", "--short", "HEAD^")
        assert len(git(repository, "worktree", "list").splitlines()) == 2
    assert not side.tree.exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_the_baseline_of_a_branch_is_where_it_left_main(repository: Path) -> None:
    fork_point = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "-q", "-b", "branch")
    commit(repository, "third")
    assert baseline_revision() == fork_point


def test_the_baseline_of_changed_files_is_their_commit(repository: Path) -> None:
    (repository / "file").write_text("changed")
    assert baseline_revision() == git(repository, "rev-parse", "HEAD")


def test_the_baseline_of_main_is_its_parent(repository: Path) -> None:
    assert baseline_revision() == git(repository, "rev-parse", "HEAD^")


def test_a_first_commit_has_no_baseline(repository: Path) -> None:
    git(repository, "checkout", "-q", "--orphan", "other")
    commit(repository, "alone")
    git(repository, "branch", "-q", "-D", "main")
    with pytest.raises(NoSideError, match=r"no baseline.*--baseline REVISION.*--unshallow"):
        baseline_revision()


def test_a_revision_that_does_not_exist_is_no_side() -> None:
    with (
        pytest.raises(NoSideError, match="nothing-of-this-name is no folder, no revision"),
        side_of("nothing-of-this-name"),
    ):
        pass


def test_source_folders_of_a_folder_are_used(tmp_path: Path) -> None:
    for folder in ("src", "packages/client/src"):
        (tmp_path / folder).mkdir(parents=True)
    with side_of(str(tmp_path)) as side:
        assert side.paths == [tmp_path / "src", tmp_path / "packages/client/src"]
        assert side.asked_as("openpi=python3") == "openpi=python3"
    assert Side("plain", tree=tmp_path / "src").paths == [tmp_path / "src"]


def test_a_side_has_its_own_harness(tmp_path: Path) -> None:
    """A harness of a side's checkout, found where the other checkout has it, or where this project has its own."""
    files = [tmp_path / side / "ci" / "mine.py" for side in ("old", "new")]
    own = tmp_path / "old" / "suite/subjects/foreign/openpi.py"
    for file in (*files, own):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    old, new = (Side(name, tree=tmp_path / name) for name in ("old", "new"))
    assert old.asked_as(f"{files[1]}=python3", new.tree) == f"{files[0]}=python3"
    assert new.asked_as(f"{files[1]}=python3", new.tree) == f"{files[1]}=python3"
    assert old.asked_as("openpi", new.tree) == f"{own}={sys.executable}"
    assert new.asked_as("openpi=python3", new.tree) == "openpi=python3"
    files[0].unlink()
    assert old.asked_as(str(files[1]), new.tree) == str(files[1])


def test_an_environment_has_its_own_interpreter(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    with side_of(f"venv:{tmp_path}") as side:
        assert side.asked_as("reference") == f"reference={tmp_path}/bin/python"
        assert side.asked_as("openpi=python3") == f"openpi={tmp_path}/bin/python"
        assert side.tree == ROOT


def test_a_folder_without_an_interpreter_is_no_environment(tmp_path: Path) -> None:
    with pytest.raises(NoSideError, match="is no virtual environment"), side_of(f"venv:{tmp_path}"):
        pass


def test_a_pinned_package_comes_before_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    with side_of("orbax-checkpoint==0.11.22") as side:
        assert side.paths == [side.packages, ROOT]
    assert commands[0][1:5] == ["-m", "pip", "install", "--quiet"]
    assert commands[0][-1] == "orbax-checkpoint==0.11.22"
    assert "--no-deps" in commands[0]


def test_a_package_that_is_not_found_is_no_side(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without an index, since pip would retry for a minute.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NoSideError, match="pip did not install"), side_of("no-such-package-anywhere==9.9.9"):
        pass


def test_the_working_tree_says_whether_it_was_changed(repository: Path) -> None:
    head = git(repository, "rev-parse", "--short", "HEAD")
    assert working_tree().label == head
    (repository / "file").write_text("changed")
    assert working_tree().label == f"{head}*"
