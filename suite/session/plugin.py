"""The pytest plugin: which subjects are asked which contracts on which cases, and what came of it.

Options: ``--subject NAME[=PYTHON]`` (a name or the path of a harness file, with the interpreter that it runs in; or
``all``), ``--expectations FILE`` (known failures) and ``--golden DIR`` (further golden cases) may be repeated;
``--results FILE`` writes rows as JSON lines. Paths are relative to where pytest is called.
"""

from collections.abc import Generator, Mapping
from typing import Any

import pytest

from fixtures.golden_cases import GOLDEN, GoldenCase, find_cases, read_case
from suite.session import profiles, verdicts
from suite.session.expectations import Expectation, complaints
from suite.session.registry import Contract, contract_of
from suite.session.results import ResultStream
from suite.session.roster import Roster, is_a_fault
from suite.session.summary import summarize
from suite.subjects.process.elsewhere import TIMEOUT
from suite.subjects.process.harness_files import parse
from suite.subjects.protocol import Subject

# What a plugin may choose: the subjects that a contract is asked of. With hundreds there is too much to collect.
SUBJECTS_OF = pytest.StashKey[dict[str, list[str]]]()

_GOLDEN = pytest.StashKey[list[GoldenCase]]()
_ROWS = pytest.StashKey[list[dict[str, Any]]]()
_STREAM = pytest.StashKey[ResultStream]()
_ROSTER = pytest.StashKey[Roster]()
_LAWS = pytest.StashKey[list[str]]()
_COMPLAINTS = pytest.StashKey[list[str]]()
_ROW = "pi0_compat_row"
_PHASES = pytest.StashKey[list[pytest.TestReport]]()
_JUDGED = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pi0-compat")
    group.addoption("--subject", action="append", metavar="NAME", help="implementation to ask (default: reference)")
    group.addoption(
        "--require-subject", action="append", default=[], metavar="NAME", help="of all, one that has to be available"
    )
    group.addoption(
        "--expectations", action="append", default=[], metavar="FILE", help="known failures of SUBJECT.toml"
    )
    group.addoption("--golden", action="append", default=[], metavar="DIR", help="further folder of golden cases")
    group.addoption("--results", metavar="FILE", help="write result rows as JSON lines")
    group.addoption(
        "--operation-timeout", type=float, default=TIMEOUT, metavar="SECONDS", help="of a subject in another process"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "contract: a law that every subject is asked to keep")
    profiles.register()
    config.stash[_GOLDEN] = _read_golden(config)
    config.stash[_ROWS] = []
    files = [config.invocation_params.dir / file for file in config.getoption("expectations")]
    config.stash[_ROSTER] = Roster(
        config.getoption("subject") or [],
        config.getoption("require_subject"),
        files,
        config.getoption("operation_timeout"),
    )
    if not _is_worker(config):
        config.pluginmanager.register(_Recorder(config))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask every subject, on every golden case."""
    if contract := contract_of(metafunc.function):
        chosen = metafunc.config.stash.get(SUBJECTS_OF, {}).get(contract.id)
        names = chosen or metafunc.config.stash[_ROSTER].names
        metafunc.parametrize("subject", names, indirect=True, scope="session", ids=[parse(name)[0] for name in names])
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
    if _hands_out(session.config) and session.config.getoption("subject"):
        session.config.stash[_ROSTER].make()
        # They are asked by the workers, each in a process of its own.
        session.config.stash[_ROSTER].rest()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make every subject before the first test, but for faults; of a mere list, keep the laws."""
    contracts = {found.id: found for item in session.items if (found := _contract(item))}
    if session.config.option.collectonly:
        session.config.stash[_LAWS] = [f"{found.id}: {found.law}" for found in contracts.values()]
    elif contracts and not _is_worker(session.config):
        session.config.stash[_ROSTER].make()


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """The implementation under test."""
    return request.config.stash[_ROSTER].get(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A subject is not asked what it does not offer; that the absence is loud is a contract of its own."""
    if contract := _contract(item):
        roster, asked_as = item.config.stash[_ROSTER], _asked_as(item)
        if reason := roster.unavailable(asked_as):
            pytest.skip(f"{verdicts.UNAVAILABLE}{reason}")
        needs = dict.fromkeys((*contract.needs, *_case_needs(item)))
        if absent := [need for need in needs if need not in roster.get(asked_as).capabilities]:
            pytest.skip(f"does not declare {', '.join(absent)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """One row a test, when its last phase is over: a fixture may still fail at teardown."""
    report = yield
    if contract := _contract(item):
        phases = item.stash.setdefault(_PHASES, [])
        phases.append(report)
        entry = _expectation(item, contract)
        if report.when == "call" and entry:
            item.stash[_JUDGED] = verdicts.expect(report, call.excinfo, entry)
        if report.when == "teardown":
            # Travels with the report: pytest-xdist runs the test in one process and reports it in another.
            setattr(report, _ROW, _row(item, contract, phases, entry))
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Close the stream; only a run that came to its end gets a footer."""
    if stream := session.config.stash.get(_STREAM, None):
        finished = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        stream.close(whole=finished and not (session.shouldstop or session.shouldfail))
    if found := [] if _is_worker(session.config) else _complaints(session.config):
        session.config.stash[_COMPLAINTS] = found
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if lines := summarize(rows) if rows else config.stash.get(_LAWS, []):
        terminalreporter.section("contracts")
        for line in (*lines, *config.stash.get(_COMPLAINTS, [])):
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
    folders = [GOLDEN, *(config.invocation_params.dir / folder for folder in config.getoption("golden"))]
    try:
        return [read_case(case) for folder in folders for case in find_cases(folder)]
    except (OSError, KeyError, ValueError) as error:
        raise pytest.UsageError(f"--golden: {error}") from error


def _contract(item: pytest.Item) -> Contract | None:
    return contract_of(item.function) if isinstance(item, pytest.Function) else None


def _params(item: pytest.Item) -> Mapping[str, Any]:
    """What the item is parametrised with; a contract always is, with its subject."""
    assert isinstance(item, pytest.Function)
    return item.callspec.params


def _asked_as(item: pytest.Item) -> str:
    asked_as: str = _params(item)["subject"]
    return asked_as


def _case_needs(item: pytest.Item) -> list[str]:
    """What a case needs beside its contract: the family of its model, and LoRA if that has adapters."""
    values = _params(item).values()
    specs = [value if isinstance(value, dict) else getattr(value, "spec", None) for value in values]
    needs = []
    for spec in (spec for spec in specs if isinstance(spec, dict)):
        adapted = spec["paligemma"]["lora"] or spec["action_expert"]["lora"]
        needs += [spec["family"], *(["lora"] if adapted else [])]
    return needs


def _row(
    item: pytest.Item, contract: Contract, phases: list[pytest.TestReport], entry: Expectation | None
) -> dict[str, Any]:
    subject = item.config.stash[_ROSTER].name(_asked_as(item))
    row = verdicts.row(contract, _case(item), subject, phases, item.stash.get(_JUDGED, None))
    if entry and row["outcome"] in ("known", "fixed"):
        row["expectation"] = {"kind": entry.kind, "reason": entry.reason, "link": entry.link}
    return row


def _case(item: pytest.Item) -> str:
    """The id of the case: the test's, without the subject's name."""
    assert isinstance(item, pytest.Function)
    return item.callspec.id.removeprefix(parse(_asked_as(item))[0]).removeprefix("-")


def _expectation(item: pytest.Item, contract: Contract) -> Expectation | None:
    """The first entry that speaks of the test; that there is another is a complaint at the end."""
    entries = item.config.stash[_ROSTER].expected(_asked_as(item)) if not is_a_fault(_asked_as(item)) else ()
    return next((entry for entry in entries if entry.is_of(contract.id, _case(item))), None)


def _complaints(config: pytest.Config) -> list[str]:
    """What is wrong with the expectations of the subjects that were asked."""
    roster, rows, found = config.stash[_ROSTER], config.stash[_ROWS], []
    for asked_as in roster.names if rows else []:
        if not is_a_fault(asked_as) and (expected := roster.expected(asked_as)):
            own = [row for row in rows if row["subject"] == roster.name(asked_as)]
            whole = {row["contract"].partition(".")[0] for row in own} if _is_whole(config) else set()
            found += [f"error: {roster.name(asked_as)}.toml: {line}" for line in complaints(expected, own, whole)]
    return found


def _is_whole(config: pytest.Config) -> bool:
    """Whether every contract of the files that were named was run."""
    option = config.option
    narrowed = (option.keyword, option.markexpr, option.deselect, getattr(option, "lf", False), option.maxfail)
    return not any(narrowed) and not any("::" in argument for argument in config.args)


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
        config, file, roster = self._config, self._config.getoption("results"), self._config.stash[_ROSTER]
        if file and _STREAM not in config.stash:
            described = [roster.describe(name) for name in roster.names]
            if _hands_out(config):
                roster.rest()
            config.stash[_STREAM] = ResultStream(config.invocation_params.dir / file, described)
        return config.stash.get(_STREAM, None)


def _is_worker(config: pytest.Config) -> bool:
    """Whether this process was started by pytest-xdist to run some of the tests."""
    return hasattr(config, "workerinput")


def _hands_out(config: pytest.Config) -> bool:
    """Whether this process has pytest-xdist's workers run the tests."""
    return not _is_worker(config) and getattr(config.option, "dist", "no") != "no"
