"""A pytest plugin that records which functions of the reference each contract enters, to skip faults it cannot catch.

The subject of such a run is ``watched.py``: the reference, with a recording call at the start of every function. Each
case gets a fresh copy with nothing cached or compiled, so it enters what it would enter when run alone; functions
entered while the copy is imported count for every case. Each contract's records go to a file of its own, named by an
environment variable so that child processes record too. A profiler (``sys.setprofile``) would be slower, since it also
traces jax, and would miss other processes and threads started by libraries.
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
from suite.writing.remembered import forget_all

_IMPORT = "from suite.mutation.reach import entered as __entered__"
_VARIABLE = "PI0_COMPAT_REACH"
# Lines that are not functions: a fixture, whose own file has more functions, and the mark of a failed contract.
_FIXTURE, _FAILED = "fixture:", "failed"
# jax's caches keep the compiled programs of discarded copies, about 15 MB per copy.
_COPIES_BETWEEN_CLEARINGS = 20


class _Watch:
    """The current copy of the instrumented reference, and the lines it recorded."""

    def __init__(self) -> None:
        self.recorded: set[str] = set()
        self.copy: ModuleType | None = None
        self.copies = 0
        # Shared fixtures that use the subject. They run once, so only the first test would appear to enter their
        # functions.
        self.shared_fixtures: set[str] = set()

    def record(self, line: str) -> None:
        """Append a line to the current file, unless it is already there."""
        if line not in self.recorded:
            self.recorded.add(line)
            if file := os.environ.get(_VARIABLE):
                with Path(file).open("a", encoding="utf-8") as stream:
                    stream.write(f"{line}\n")

    def record_to(self, file: str) -> str:
        """Record to ``file`` from now on, here and in processes started later. Return the previous file."""
        before, os.environ[_VARIABLE] = os.environ.get(_VARIABLE, ""), file
        self.recorded.clear()
        return before

    def renew(self) -> ModuleType:
        """Replace the copy with a fresh one."""
        self.copy = fresh_harness(_instrumented_files())
        self.copies += 1
        if self.copies % _COPIES_BETWEEN_CLEARINGS == 0:
            jax.clear_caches()
        return self.copy


watch = _Watch()
# Called by the instrumented functions.
entered = watch.record


def read_reach(folder: Path) -> dict[str, Functions]:
    """Read the files of a run with ``--reach``: the functions that each contract enters in any of its cases.

    A contract that fails on the reference may have stopped early, so it counts as entering every function.
    """
    files = {file.name: set(file.read_text(encoding="utf-8").split()) for file in folder.iterdir()}
    return {name: _functions(lines, files) for name, lines in files.items() if not name.startswith(_FIXTURE)}


def _functions(lines: set[str], by_file: dict[str, set[str]]) -> Functions:
    if _FAILED in lines:
        return None
    fixtures = {line for line in lines if line.startswith(_FIXTURE)}
    return frozenset((lines - fixtures).union(*(by_file[fixture] for fixture in fixtures)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reach", metavar="FOLDER", help="write the functions that each contract enters to FOLDER")


def pytest_runtest_setup(item: pytest.Item) -> None:
    assert isinstance(item, pytest.Function)
    if contract := contract_of(item.function):
        watch.record_to(_file(item, contract.id))
        watch.renew()
        # What an earlier test asked for, this one has to ask itself.
        forget_all()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Record what a shared fixture enters in a file of its own, which counts for every contract that uses it."""
    if fixturedef.scope == "function" or "subject" not in fixturedef.argnames:
        return (yield)
    watch.shared_fixtures.add(fixturedef.argname)
    before = watch.record_to(_file(request.node, f"{_FIXTURE}{fixturedef.argname}"))
    try:
        return (yield)
    finally:
        watch.record_to(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        watch.record(_FAILED)
    if report.when == "call":
        for fixture in watch.shared_fixtures & set(getattr(item, "fixturenames", ())):
            watch.record(f"{_FIXTURE}{fixture}")
    return report


def _file(node: pytest.Item | pytest.Collector, name: str) -> str:
    return str(Path(node.config.getoption("reach")) / name)


@cache
def _instrumented_files() -> dict[Path, str]:
    return {file: instrumented(place(file), file.read_text(encoding="utf-8")) for file in files()}


def instrumented(file: str, source: str) -> str:
    """Return a module's source with a recording call at the start of every function."""
    tree = ast.parse(source)
    for name, function in functions_of(tree):
        _begin(function.body, f"__entered__({f'{file}:{name}'!r})")
    _begin(tree.body, _IMPORT)
    return ast.unparse(tree)


def _begin(body: list[ast.stmt], statement: str) -> None:
    """Insert a statement at the start of a body, after the docstring."""
    has_docstring = bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    body.insert(int(has_docstring), *ast.parse(statement).body)
