"""A pytest plugin: which functions of the reference a contract enters, to know which faults it cannot catch.

The subject of such a run is ``watched.py``: the reference, with a note at the beginning of every function. Each case
gets a copy of it that nothing is cached or compiled in, so a case enters whatever it would enter alone; what is entered
while the copy is imported counts for every case. Notes go to a file that the environment names, one for each contract,
so those of other processes come along. A profiler (``sys.setprofile``) would have cost more and seen less: it also
watches jax at work, and sees neither other processes nor threads that libraries start.
"""

import ast
import os
from collections.abc import Generator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import pytest

from suite.mutation.changes import Functions, files, functions_of, place
from suite.session.registry import contract_of
from suite.subjects.patches.patched import fresh_harness

_IMPORT = "from suite.mutation.reach import entered as __entered__"
_VARIABLE = "PI0_COMPAT_REACH"
# Lines that are no functions: a fixture whose file belongs to the contract's, and a contract that failed.
_FIXTURE, _FAILED = "fixture:", "failed"
# Compiled programs of copies that are gone stay in jax's caches, about 15 MB a copy.
_COPIES_BETWEEN_CLEARINGS = 20


class _Watch:
    """The copy of the reference that is watched now, and what is noted of it."""

    def __init__(self) -> None:
        self.noted: set[str] = set()
        self.copy: ModuleType | None = None
        self.copies = 0
        # Fixtures of many tests that use the subject: only the first test would be seen to enter what they enter.
        self.shared_fixtures: set[str] = set()

    def note(self, line: str) -> None:
        """Add a line, once, to the file that the environment names."""
        if line not in self.noted:
            self.noted.add(line)
            if file := os.environ.get(_VARIABLE):
                with Path(file).open("a", encoding="utf-8") as stream:
                    stream.write(f"{line}\n")

    def note_in(self, file: str) -> str:
        """Have notes go to another file, those of processes that start from now on too; the file until now."""
        before, os.environ[_VARIABLE] = os.environ.get(_VARIABLE, ""), file
        self.noted.clear()
        return before

    def renew(self) -> ModuleType:
        """Begin again, with another copy."""
        self.copy = fresh_harness(_with_notes())
        self.copies += 1
        if self.copies % _COPIES_BETWEEN_CLEARINGS == 0:
            jax.clear_caches()
        return self.copy


watch = _Watch()
# What the notes call.
entered = watch.note


def read_reach(folder: Path) -> dict[str, Functions]:
    """What a run with ``--reach`` left: the functions that each contract enters in any of its cases.

    A contract that fails on the reference may stop early: it counts as one that enters every function.
    """
    lines = {file.name: set(file.read_text(encoding="utf-8").split()) for file in folder.iterdir()}
    return {name: _functions(of_one, lines) for name, of_one in lines.items() if not name.startswith(_FIXTURE)}


def _functions(lines: set[str], of_fixtures: dict[str, set[str]]) -> Functions:
    if _FAILED in lines:
        return None
    fixtures = {line for line in lines if line.startswith(_FIXTURE)}
    return frozenset((lines - fixtures).union(*(of_fixtures[fixture] for fixture in fixtures)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reach", metavar="FOLDER", help="write there what each contract enters")


def pytest_runtest_setup(item: pytest.Item) -> None:
    assert isinstance(item, pytest.Function)
    if contract := contract_of(item.function):
        watch.note_in(_file(item, contract.id))
        watch.renew()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """What a shared fixture enters counts for all contracts that use it; a process may live as long as it does."""
    if fixturedef.scope == "function" or "subject" not in fixturedef.argnames:
        return (yield)
    watch.shared_fixtures.add(fixturedef.argname)
    before = watch.note_in(_file(request.node, f"{_FIXTURE}{fixturedef.argname}"))
    try:
        return (yield)
    finally:
        watch.note_in(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        watch.note(_FAILED)
    if report.when == "call":
        for fixture in watch.shared_fixtures & set(getattr(item, "fixturenames", ())):
            watch.note(f"{_FIXTURE}{fixture}")
    return report


def _file(node: pytest.Item | pytest.Collector, name: str) -> str:
    return str(Path(node.config.getoption("reach")) / name)


@cache
def _with_notes() -> dict[Path, str]:
    """Every file with a note in every function."""
    return {file: noted(place(file), file.read_text(encoding="utf-8")) for file in files()}


def noted(file: str, source: str) -> str:
    """A module's source with a note at the beginning of every function."""
    tree = ast.parse(source)
    for name, function in functions_of(tree):
        _begin(function.body, f"__entered__({f'{file}:{name}'!r})")
    _begin(tree.body, _IMPORT)
    return ast.unparse(tree)


def _begin(body: list[ast.stmt], statement: str) -> None:
    """Put a statement first, after the docstring."""
    has_docstring = bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    body.insert(int(has_docstring), *ast.parse(statement).body)
