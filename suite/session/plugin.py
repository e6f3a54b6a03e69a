"""The pytest plugin: run contracts against subjects and record the outcomes.

Options: ``--subject NAME[=PYTHON]`` (a known name, the path of a harness file, or ``all``; PYTHON is the interpreter to
run it in), ``--expectations FILE`` (known failures) and ``--golden DIR`` (more golden cases) may be repeated;
``--results FILE`` writes rows as JSON lines. Paths are relative to the directory pytest is started from.
"""

from collections.abc import Generator, Mapping
from typing import Any, cast

import pytest

from fixtures.specs import ModelSpec, adapted_experts
from suite.session import profiles, verdicts
from suite.session.expectations import Expectation, find_problems
from suite.session.golden import PARAMETERS, AnyCase, golden_cases, of_kind
from suite.session.registry import Contract, contract_of
from suite.session.results import ResultStream
from suite.session.roster import Roster, is_a_fault
from suite.session.summary import summarize
from suite.subjects.process.harness_files import parse
from suite.subjects.protocol import TIMEOUT, Subject

# Set by other plugins: the subjects to run for each contract id. Collecting every contract for hundreds of subjects
# would take too long.
SUBJECTS_OF = pytest.StashKey[dict[str, list[str]]]()

_GOLDEN = pytest.StashKey[dict[str, AnyCase]]()
_ROWS = pytest.StashKey[list[dict[str, Any]]]()
_STREAM = pytest.StashKey[ResultStream]()
_ROSTER = pytest.StashKey[Roster]()
_LAWS = pytest.StashKey[list[str]]()
_PROBLEMS = pytest.StashKey[list[str]]()
_ROW = "pi0_compat_row"
_PHASES = pytest.StashKey[list[pytest.TestReport]]()
_VERDICT = pytest.StashKey[str]()
_FAILURE = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pi0-compat")
    group.addoption(
        "--subject",
        action="append",
        metavar="NAME",
        help="implementation to test: NAME[=PYTHON], a harness file or all; repeatable (default: reference)",
    )
    group.addoption(
        "--require-subject",
        action="append",
        default=[],
        metavar="NAME",
        help="with --subject all: fail unless this one is available; repeatable",
    )
    group.addoption(
        "--expectations",
        action="append",
        default=[],
        metavar="FILE",
        help="known failures, in a file named <subject>.toml; repeatable",
    )
    group.addoption(
        "--golden", action="append", default=[], metavar="DIR", help="additional folder of golden cases; repeatable"
    )
    group.addoption("--results", metavar="FILE", help="write result rows to FILE as JSON lines")
    group.addoption(
        "--operation-timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="limit for one operation of a subject in another process (default: %(default)s)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "contract: a law that every subject is tested against")
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
    """Parametrize contracts by subject, and by golden case where they take one."""
    if contract := contract_of(metafunc.function):
        chosen = metafunc.config.stash.get(SUBJECTS_OF, {}).get(contract.id)
        names = chosen or metafunc.config.stash[_ROSTER].names
        metafunc.parametrize("subject", names, indirect=True, scope="session", ids=[parse(name)[0] for name in names])
    for parameter in PARAMETERS:
        if parameter in metafunc.fixturenames:
            _parametrize_golden(metafunc, parameter)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let implementations warn: only this project's own tests turn warnings into errors."""
    if _contract(item):
        # The last filter wins. Reads abandoned by orbax warn in whichever test they are garbage-collected.
        ignored = "ignore::pytest.PytestUnraisableExceptionWarning"
        item.add_marker(pytest.mark.filterwarnings("default", ignored))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Reject an invalid subject here, once, instead of in every pytest-xdist worker."""
    if _is_controller(session.config) and session.config.getoption("subject"):
        session.config.stash[_ROSTER].make()
        # Each worker starts its own subject processes.
        session.config.stash[_ROSTER].rest()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Create every subject except faults before the first test; with ``--collect-only``, keep the laws to list."""
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
    """Skip contracts that need a capability the subject does not declare.

    ``subject.absence_is_loud`` tests that calling a missing operation fails.
    """
    if contract := _contract(item):
        roster, subject_arg = item.config.stash[_ROSTER], _subject_arg(item)
        if reason := roster.unavailable(subject_arg):
            pytest.skip(f"{verdicts.UNAVAILABLE}{reason}")
        if absent := [need for need in _needs(item, contract) if need not in roster.get(subject_arg).capabilities]:
            pytest.skip(f"does not declare {', '.join(absent)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add one row per test after its last phase, because a fixture may still fail at teardown."""
    report = yield
    if contract := _contract(item):
        phases = item.stash.setdefault(_PHASES, [])
        phases.append(report)
        entry = _expectation(item, contract)
        if report.when == "call" and call.excinfo:
            item.stash[_FAILURE] = verdicts.describe(call.excinfo.value, _needs(item, contract))
        if report.when == "call" and entry:
            item.stash[_VERDICT] = verdicts.expect(report, call.excinfo, entry)
        if report.when == "teardown":
            # The row is attached to the report since pytest-xdist runs the test and reports it in different processes.
            setattr(report, _ROW, _row(item, contract, phases, entry))
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Close the results file, with a footer only if the run was complete."""
    if stream := session.config.stash.get(_STREAM, None):
        finished = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        stream.close(whole=finished and not (session.shouldstop or session.shouldfail))
    if problems := [] if _is_worker(session.config) else _expectation_problems(session.config):
        session.config.stash[_PROBLEMS] = problems
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.getoption("no_summary"):
        return
    rows = config.stash[_ROWS]
    if lines := summarize(rows) if rows else config.stash.get(_LAWS, []):
        terminalreporter.section("contracts")
        for line in (*lines, *config.stash.get(_PROBLEMS, [])):
            terminalreporter.write_line(line)


def _parametrize_golden(metafunc: pytest.Metafunc, parameter: str) -> None:
    """Parametrize by golden case; a contract that also takes ``golden_training`` gets the cases that have one."""
    cases = of_kind(metafunc.config.stash[_GOLDEN], parameter)
    if "golden_training" in metafunc.fixturenames:
        cases = {id_: case for id_, case in cases.items() if case.training}
        values, names = [(case, case.training) for case in cases.values()], f"{parameter},golden_training"
        metafunc.parametrize(names, values, ids=[*cases], scope="session")
    else:
        metafunc.parametrize(parameter, [*cases.values()], ids=[*cases], scope="session")


def _read_golden(config: pytest.Config) -> dict[str, AnyCase]:
    try:
        return golden_cases(config.invocation_params.dir / folder for folder in config.getoption("golden"))
    except (OSError, KeyError, ValueError) as error:
        raise pytest.UsageError(f"--golden: {error}") from error


def _contract(item: pytest.Item) -> Contract | None:
    return contract_of(item.function) if isinstance(item, pytest.Function) else None


def _params(item: pytest.Item) -> Mapping[str, Any]:
    """Return the item's parameters; a contract always has its subject among them."""
    assert isinstance(item, pytest.Function)
    return item.callspec.params


def _subject_arg(item: pytest.Item) -> str:
    """Return the value of ``--subject`` that the item runs against."""
    subject_arg: str = _params(item)["subject"]
    return subject_arg


def _needs(item: pytest.Item, contract: Contract) -> list[str]:
    """Return the capabilities that a case of a contract needs."""
    return list(dict.fromkeys((*contract.needs, *_case_needs(item))))


def _case_needs(item: pytest.Item) -> list[str]:
    """Return the capabilities that the case itself needs: those of its layout, its model's family, and LoRA if the
    model has adapters. A parameter with an attribute ``needs`` states them itself."""
    values = list(_params(item).values())
    stated = [need for value in values if isinstance(needs := getattr(value, "needs", None), tuple) for need in needs]
    specs = [value if isinstance(value, dict) else getattr(value, "spec", None) for value in values]
    needs = stated
    for spec in (cast("ModelSpec", spec) for spec in specs if isinstance(spec, dict)):
        needs += [spec["family"], *(["lora"] if adapted_experts(spec) else [])]
    return needs


def _row(
    item: pytest.Item, contract: Contract, phases: list[pytest.TestReport], entry: Expectation | None
) -> dict[str, Any]:
    subject = item.config.stash[_ROSTER].name(_subject_arg(item))
    verdict, failure = item.stash.get(_VERDICT, None), item.stash.get(_FAILURE, None)
    row = verdicts.row(contract, _case(item), subject, phases, verdict=verdict, failure=failure)
    if entry and row["outcome"] in ("known", "fixed"):
        row["expectation"] = {"kind": entry.kind, "reason": entry.reason, "link": entry.link}
    return row


def _case(item: pytest.Item) -> str:
    """Return the case id: the test's parameter id without the subject's name."""
    assert isinstance(item, pytest.Function)
    return item.callspec.id.removeprefix(parse(_subject_arg(item))[0]).removeprefix("-")


def _expectation(item: pytest.Item, contract: Contract) -> Expectation | None:
    """Return the first entry that covers the test; overlapping entries are reported at the end of the run."""
    entries = item.config.stash[_ROSTER].expected(_subject_arg(item)) if not is_a_fault(_subject_arg(item)) else ()
    return next((entry for entry in entries if entry.covers(contract.id, _case(item))), None)


def _expectation_problems(config: pytest.Config) -> list[str]:
    """Check the expectations of every subject against the rows of the run."""
    roster, rows, problems = config.stash[_ROSTER], config.stash[_ROWS], []
    for subject_arg in roster.names if rows else []:
        if not is_a_fault(subject_arg) and (expected := roster.expected(subject_arg)):
            name = roster.name(subject_arg)
            own = [row for row in rows if row["subject"] == name]
            complete = {row["contract"].partition(".")[0] for row in own} if _ran_all(config) else set()
            problems += [f"error: {name}.toml: {line}" for line in find_problems(expected, own, complete)]
    return problems


def _ran_all(config: pytest.Config) -> bool:
    """Return whether the run included every contract in the selected files."""
    option = config.option
    filters = (option.keyword, option.markexpr, option.deselect, getattr(option, "lf", False), option.maxfail)
    return not any(filters) and not any("::" in argument for argument in config.args)


class _Recorder:
    """Collects the rows of all tests in the process that reports: the only one, or pytest-xdist's controller."""

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
        """Return the ``--results`` stream, opened at the first row."""
        config, file, roster = self._config, self._config.getoption("results"), self._config.stash[_ROSTER]
        if file and _STREAM not in config.stash:
            described = [roster.describe(name) for name in roster.names]
            if _is_controller(config):
                roster.rest()
            config.stash[_STREAM] = ResultStream(config.invocation_params.dir / file, described)
        return config.stash.get(_STREAM, None)


def _is_worker(config: pytest.Config) -> bool:
    """Return whether this process is a pytest-xdist worker."""
    return hasattr(config, "workerinput")


def _is_controller(config: pytest.Config) -> bool:
    """Return whether this process is pytest-xdist's controller."""
    return not _is_worker(config) and getattr(config.option, "dist", "no") != "no"
