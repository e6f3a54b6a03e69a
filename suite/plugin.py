"""The pytest plugin: which subjects are asked which contracts on which cases, and what came of it.

Options: ``--subject NAME`` (a name or the path of an adapter file) and ``--golden DIR`` (further golden cases) may be
repeated; ``--results FILE`` writes rows as JSON lines. Paths are relative to where pytest is called.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fixtures.golden_cases import GOLDEN, GoldenCase, find_cases, read_case
from suite import profiles
from suite.registry import Contract, contract_of
from suite.results import ResultStream
from suite.subjects.find import find_subject, is_fault
from suite.subjects.protocol import Subject
from suite.summary import summarize

# What a plugin may choose: the subjects that a contract is asked of. With hundreds there is too much to collect.
SUBJECTS_OF = pytest.StashKey[dict[str, list[str]]]()

_GOLDEN = pytest.StashKey[list[GoldenCase]]()
_ROWS = pytest.StashKey[list[dict[str, Any]]]()
_STREAM = pytest.StashKey[ResultStream]()
_SUBJECTS = pytest.StashKey[dict[str, Subject]]()
_LAWS = pytest.StashKey[list[str]]()
_ROW = "pi0_compat_row"
_PHASES = pytest.StashKey[list[pytest.TestReport]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pi0-compat")
    group.addoption("--subject", action="append", metavar="NAME", help="implementation to ask (default: reference)")
    group.addoption("--golden", action="append", default=[], metavar="DIR", help="further folder of golden cases")
    group.addoption("--results", metavar="FILE", help="write result rows as JSON lines")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "contract: a law that every subject is asked to keep")
    profiles.register()
    config.stash[_GOLDEN] = _read_golden(config)
    config.stash[_ROWS] = []
    config.stash[_SUBJECTS] = {}
    if not _is_worker(config):
        config.pluginmanager.register(_Recorder(config))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask every subject, on every golden case."""
    if contract := contract_of(metafunc.function):
        chosen = metafunc.config.stash.get(SUBJECTS_OF, {}).get(contract.id)
        names = chosen or _subject_names(metafunc.config)
        metafunc.parametrize("subject", names, indirect=True, scope="session")
    if "golden_case" in metafunc.fixturenames:
        _parametrize_golden(metafunc)


def pytest_itemcollected(item: pytest.Item) -> None:
    """What an implementation warns of is not a broken law; this project's own tests turn warnings into errors."""
    if _contract(item):
        # The last one wins: reads that orbax abandons complain in whatever test they are collected.
        ignored = "ignore::pytest.PytestUnraisableExceptionWarning"
        item.add_marker(pytest.mark.filterwarnings("default", ignored))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse a wrong subject here, once, and not in every process that pytest-xdist starts."""
    if _hands_out(session.config):
        _make_subjects(session.config, session.config.getoption("subject") or [])


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make every subject before the first test, but for faults; of a mere list, keep the laws."""
    contracts = {found.id: found for item in session.items if (found := _contract(item))}
    if session.config.option.collectonly:
        session.config.stash[_LAWS] = [f"{found.id}: {found.law}" for found in contracts.values()]
    elif contracts:
        _make_subjects(session.config, _subject_names(session.config))


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """The implementation under test."""
    return _subject(request.config, request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A subject is not asked what it does not offer; that the absence is loud is a contract of its own."""
    if contract := _contract(item):
        needs = dict.fromkeys((*contract.needs, *_case_needs(item)))
        if absent := [need for need in needs if need not in _subject(item.config, _asked_as(item)).capabilities]:
            pytest.skip(f"does not declare {', '.join(absent)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """One row a test, when its last phase is over: a fixture may still fail at teardown."""
    report = yield
    if contract := _contract(item):
        phases = item.stash.setdefault(_PHASES, [])
        phases.append(report)
        if report.when == "teardown":
            # Travels with the report: pytest-xdist runs the test in one process and reports it in another.
            setattr(report, _ROW, _row(item, contract, phases))
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Close the stream; only a run that came to its end gets a footer."""
    if stream := session.config.stash.get(_STREAM, None):
        finished = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        stream.close(whole=finished and not (session.shouldstop or session.shouldfail))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if lines := summarize(rows) if rows else config.stash.get(_LAWS, []):
        terminalreporter.section("contracts")
        for line in lines:
            terminalreporter.write_line(line)


def _parametrize_golden(metafunc: pytest.Metafunc) -> None:
    """Every golden case; for a contract that takes ``golden_training`` too, the cases that have one."""
    cases = metafunc.config.stash[_GOLDEN]
    if "golden_training" in metafunc.fixturenames:
        cases = [case for case in cases if case.training]
        values, names = [(case, case.training) for case in cases], "golden_case,golden_training"
        metafunc.parametrize(names, values, ids=[case.name for case in cases], scope="session")
    else:
        metafunc.parametrize("golden_case", cases, ids=[case.name for case in cases], scope="session")


def _read_golden(config: pytest.Config) -> list[GoldenCase]:
    """The cases that come with the suite, and those of every ``--golden``."""
    folders = [GOLDEN, *(config.invocation_params.dir / Path(folder) for folder in config.getoption("golden"))]
    try:
        return [read_case(case) for folder in folders for case in find_cases(folder)]
    except (OSError, KeyError, ValueError) as error:
        raise pytest.UsageError(f"--golden: {error}") from error


def _find(name: str) -> Subject:
    with _refusing(name):
        return find_subject(name)


def _is_fault(name: str) -> bool:
    with _refusing(name):
        return is_fault(name)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # an adapter is foreign code, and importing it may raise anything
        raise pytest.UsageError(f"--subject {name}: {type(error).__name__}: {error}") from error


def _contract(item: pytest.Item) -> Contract | None:
    return contract_of(item.function) if isinstance(item, pytest.Function) else None


def _params(item: pytest.Item) -> Mapping[str, Any]:
    """What the item is parametrised with; a contract always is, with its subject."""
    assert isinstance(item, pytest.Function)
    return item.callspec.params


def _asked_as(item: pytest.Item) -> str:
    asked_as: str = _params(item)["subject"]
    return asked_as


def _subject(config: pytest.Config, name: str) -> Subject:
    """A subject. A fault is made for its first test, and let go when another is made."""
    made = config.stash[_SUBJECTS]
    if name not in made:
        for fault in [other for other in made if is_fault(name) and is_fault(other)]:
            del made[fault]
        made[name] = _find(name)
    return made[name]


def _name(config: pytest.Config, asked_as: str) -> str:
    """A subject's name; that of a fault is known without making it, which may fail."""
    made = config.stash[_SUBJECTS].get(asked_as)
    return made.name if made else asked_as


def _case_needs(item: pytest.Item) -> list[str]:
    """What a case needs beside its contract: the family of its model, and LoRA if that has adapters."""
    values = _params(item).values()
    specs = [value if isinstance(value, dict) else getattr(value, "spec", None) for value in values]
    needs = []
    for spec in (spec for spec in specs if isinstance(spec, dict)):
        adapted = spec["paligemma"]["lora"] or spec["action_expert"]["lora"]
        needs += [spec["family"], *(["lora"] if adapted else [])]
    return needs


def _row(item: pytest.Item, contract: Contract, phases: list[pytest.TestReport]) -> dict[str, Any]:
    assert isinstance(item, pytest.Function)
    broken = next((report for report in phases if not report.passed), None)
    asked_as = _asked_as(item)
    return {
        "contract": contract.id,
        "law": contract.law,
        "source": contract.source,
        "case": item.callspec.id.removeprefix(asked_as).removeprefix("-"),
        "subject": _name(item.config, asked_as),
        "outcome": _outcome(broken),
        "seconds": round(sum(report.duration for report in phases), 3),
        "message": "" if broken is None else _message(broken),
    }


def _outcome(broken: pytest.TestReport | None) -> str:
    if broken is None:
        return "pass"
    if broken.skipped:
        return "absent"
    return "fail" if broken.when == "call" else "error"


def _message(report: pytest.TestReport) -> str:
    """The beginning of what went wrong, or why the subject was not asked."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else str(report.longrepr)).splitlines()
    # An assertion on many parameters says how many differ, then the first of them.
    return " ".join(line.strip() for line in lines[:2])


class _Recorder:
    """Keeps the rows of all tests, in the process that reports: the only one, or pytest-xdist's controller."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        row = getattr(report, _ROW, None)
        if row is None:
            return
        self._config.stash[_ROWS].append(row)
        if stream := self._stream():
            stream.add(row)

    def _stream(self) -> ResultStream | None:
        """The stream of ``--results``, opened with the first row."""
        config, file = self._config, self._config.getoption("results")
        if file and _STREAM not in config.stash:
            _make_subjects(config, _subject_names(config))
            described = [_describe(config, name) for name in dict.fromkeys(_subject_names(config))]
            config.stash[_STREAM] = ResultStream(config.invocation_params.dir / file, described)
        return config.stash.get(_STREAM, None)


def _is_worker(config: pytest.Config) -> bool:
    """Whether this process was started by pytest-xdist to run some of the tests."""
    return hasattr(config, "workerinput")


def _hands_out(config: pytest.Config) -> bool:
    """Whether this process has pytest-xdist's workers run the tests."""
    return not _is_worker(config) and getattr(config.option, "dist", "no") != "no"


def _subject_names(config: pytest.Config) -> list[str]:
    return config.getoption("subject") or ["reference"]


def _make_subjects(config: pytest.Config, names: list[str]) -> None:
    """Make subjects; of a fault, only see that there is one."""
    made = config.stash[_SUBJECTS]
    made.update({name: _find(name) for name in names if name not in made and not _is_fault(name)})


def _describe(config: pytest.Config, name: str) -> dict[str, Any]:
    """What a subject tells of itself; a fault is the reference, which tells the same for hundreds of them."""
    if is_fault(name):
        return _subject(config, "reference").describe() | {"name": name}
    return _subject(config, name).describe()
