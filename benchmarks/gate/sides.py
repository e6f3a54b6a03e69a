"""The two sides of a comparison: code, interpreter, and packages."""

import dataclasses
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure.process import ROOT
from suite.subjects.process.harness_files import harness_file, is_foreign, is_path, parse

_VENV = "venv:"
_PIN = re.compile(r"[\w.-]+(\[[\w,-]+\])?==[\w.+!-]+")


class NoSideError(Exception):
    """There is nothing to compare with; the message says how to fix that."""


@dataclasses.dataclass(frozen=True)
class Side:
    """One side.

    Attributes:
      label: a name to show.
      tree: the checkout whose code is measured.
      python: the interpreter; None for this one, or the subject's.
      packages: a folder of packages that take precedence over the interpreter's own.
    """

    label: str
    tree: Path = ROOT
    python: Path | None = None
    packages: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """The folders where a process finds the code."""
        sources = [self.tree / "src", *sorted(self.tree.glob("packages/*/src"))]
        code = [folder for folder in sources if folder.is_dir()] or [self.tree]
        return [*([self.packages] if self.packages else []), *code]

    def asked_as(self, subject: str, home: Path = ROOT) -> str:
        """Return ``NAME[=PYTHON]`` with the side's own interpreter and its own copy of the harness, if it has them.

        Args:
          subject: ``NAME[=PYTHON]`` as it was asked for.
          home: the checkout that the harness's file is part of, if it is part of one.
        """
        name, python = parse(subject)
        chosen = str(self.python or python or "")
        if own := self._own_harness(name, home):
            # A foreign harness is sent, even to this interpreter.
            chosen = chosen or (sys.executable if is_foreign(name) else "")
            name = str(own)
        return f"{name}={chosen}" if chosen else name

    def _own_harness(self, name: str, home: Path) -> Path | None:
        """Return this side's copy of the harness's file; None if it has none, or if it is the same file."""
        if not (is_path(name) or is_foreign(name)):
            return None
        file = harness_file(name).resolve()
        own = next((self.tree / file.relative_to(tree) for tree in (home, ROOT) if file.is_relative_to(tree)), file)
        return own if own != file and own.is_file() else None


@contextmanager
def side_of(asked: str) -> Iterator[Side]:
    """Set up a side: a folder, ``venv:FOLDER``, ``PACKAGE==VERSION``, or a git revision.

    Raises:
      NoSideError: it is none of them.
    """
    with tempfile.TemporaryDirectory(prefix="pi0-compat-") as scratch:
        if asked.startswith(_VENV):
            yield Side(asked, python=_interpreter(Path(asked.removeprefix(_VENV))))
        elif _PIN.fullmatch(asked):
            yield Side(asked, packages=_installed(asked, Path(scratch)))
        elif (folder := Path(asked).expanduser()).is_dir():
            yield Side(folder.resolve().name, tree=folder.resolve())
        else:
            tree = Path(scratch, "tree")
            with _worktree(asked, tree) as label:
                yield Side(label, tree=tree)


def working_tree() -> Side:
    """Return this checkout, uncommitted changes included."""
    changed = "*" if _git("status", "--porcelain") else ""
    return Side(f"{_git('rev-parse', '--short', 'HEAD') or 'this checkout'}{changed}")


def baseline_revision() -> str:
    """Return the merge base with the main branch; if that is the checkout itself, unchanged, its parent.

    Raises:
      NoSideError: git knows neither.
    """
    head = _git("rev-parse", "HEAD")
    bases = (_git("merge-base", main, "HEAD") for main in ("origin/main", "main"))
    base = next(filter(None, bases), "")
    if base and (base != head or _git("status", "--porcelain")):
        return base
    if parent := _git("rev-parse", "--verify", "--quiet", "HEAD^"):
        return parent
    raise NoSideError(
        "no baseline: git knows no merge base with main and no parent of HEAD; give one (--baseline REVISION), "
        "or fetch the history of a shallow clone (git fetch --unshallow)"
    )


@contextmanager
def _worktree(revision: str, folder: Path) -> Iterator[str]:
    """Check a revision of this project out into a folder; yields its short name."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not commit:
        raise NoSideError(
            f"nothing to compare: {revision} is no folder, no revision of this project, no {_VENV}FOLDER and no "
            "PACKAGE==VERSION"
        )
    _git("worktree", "add", "--detach", "--quiet", str(folder), commit)
    if not folder.is_dir():
        raise NoSideError(f"nothing to compare: git made no worktree of {revision}")
    try:
        yield _git("rev-parse", "--short", commit)
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _interpreter(folder: Path) -> Path:
    python = folder.expanduser().absolute() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.is_file():
        raise NoSideError(f"nothing to compare: {folder} is no virtual environment, there is no {python.name} in it")
    return python


def _installed(pin: str, folder: Path) -> Path:
    """Install one package of another version into a folder; its dependencies are the interpreter's."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), pin]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        raise NoSideError(f"nothing to compare: pip did not install {pin}: {installed.stderr.strip().splitlines()[-1]}")
    return folder


def _git(*arguments: str) -> str:
    """Return git's output; empty if git fails."""
    answer = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""
