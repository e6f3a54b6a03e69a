"""House rules that no linter checks."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("pi0_compat", "docs", "tests", "suite", "fixtures", "benchmarks", "reports")
MAX_LINES = 400
# A path below one of these folders belongs to somebody's machine.
MACHINE_PATH = re.compile(rb"(?<![\w.])/(?:home|Users|work|root|tmp|mnt)/\w|\b[A-Z]:\\Users\\")


def files(pattern: str) -> list[Path]:
    """Return the files of the project's packages and of its root folder."""
    paths = [file for package in PACKAGES for file in (ROOT / package).rglob(pattern)]
    paths += ROOT.glob(pattern)
    return [file for file in paths if file.is_file() and "__pycache__" not in file.parts and file.name != ".git"]


def test_files_are_short() -> None:
    """No Python file has more than 400 lines."""
    lengths = {str(file): len(file.read_text().splitlines()) for file in files("*.py")}
    assert len(lengths) > 50
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_every_module_has_a_docstring() -> None:
    """Every module has a docstring."""
    undocumented = [str(f) for f in files("*.py") if not ast.get_docstring(ast.parse(f.read_text()))]
    assert undocumented == []


def test_no_file_names_a_machine() -> None:
    """No file has an absolute path of the machine that it was made on, not even golden files and schemas."""
    assert MACHINE_PATH.search(b"see /" + b"home/me/project")
    assert [str(file) for file in files("*") if MACHINE_PATH.search(file.read_bytes())] == []
