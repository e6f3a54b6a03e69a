"""Output appears completely or not at all, and the remains of a killed run are removed with a warning."""

import subprocess
import sys
from pathlib import Path

import pytest

from pi0_compat.storage.atomic import appearing_at, unfinished

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_it_appears_when_the_body_ends(tmp_path: Path, kind: str) -> None:
    """A file or a folder exists at the end, in new parents, and nothing beside it."""
    out = tmp_path / "new" / "out"
    with appearing_at(out) as writing:
        writing.mkdir() if kind == "folder" else writing.write_text("whole")
        assert not out.exists()
    assert out.exists()
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """If the body fails or is interrupted, nothing is at the place or beside it."""

    def fail() -> None:
        with appearing_at(tmp_path / "out") as writing:
            writing.mkdir()
            (writing / "half").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert not list(tmp_path.iterdir())


def test_existing_files_are_left_alone(tmp_path: Path) -> None:
    """A file, a folder or a dangling link at the place is refused with its path and a solution."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with (
            pytest.raises(FileExistsError, match=rf"{name}: already exists; choose another folder or remove it first"),
            appearing_at(tmp_path / name),
        ):
            pytest.fail("the body was entered")
    assert (tmp_path / "file").read_text() == "mine"


def test_files_created_meanwhile_are_left_alone(tmp_path: Path) -> None:
    """A file that another program created at the place during the write is not replaced."""

    def write() -> None:
        with appearing_at(tmp_path / "out") as writing:
            writing.write_text("late")
            (tmp_path / "out").write_text("mine")

    with pytest.raises(FileExistsError, match="out: already exists"):
        write()
    assert (tmp_path / "out").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_another_process_is_not_disturbed(tmp_path: Path) -> None:
    """While one process writes, another is refused and changes nothing."""
    code = (
        "import sys\nfrom pi0_compat.storage.atomic import appearing_at\n"
        f"with appearing_at({str(tmp_path / 'out')!r}) as writing:\n"
        "    writing.write_text('theirs'); print('ready', flush=True); sys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(FileExistsError, match="another process is writing it, in"), appearing_at(tmp_path / "out"):
            pytest.fail("the body was entered")
        other.stdin.close()
        assert other.wait() == 0
    assert (tmp_path / "out").read_text() == "theirs"


def test_the_remains_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    """The folder of a killed process has a recognizable name; the next run removes it with a warning."""
    code = (
        "import os, signal\nfrom pi0_compat.storage.atomic import appearing_at\n"
        f"with appearing_at({str(tmp_path / 'out')!r}) as writing:\n"
        "    writing.mkdir(); (writing / 'half').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode < 0
    assert list(tmp_path.iterdir()) == [unfinished(tmp_path / "out")] == [tmp_path / ".out.unfinished"]
    with (
        pytest.warns(UserWarning, match=r"\.out\.unfinished: what a killed run left behind is removed"),
        appearing_at(tmp_path / "out") as writing,
    ):
        writing.write_text("whole")
    assert (tmp_path / "out").read_text() == "whole"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
