"""The pytest plugin: which subjects are asked which contracts on which cases, and what came of it.

Options: ``--subject NAME`` (a name or the path of an adapter file) and ``--golden DIR`` (further golden cases) may be
repeated; ``--results FILE`` writes rows as JSON lines.
"""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from fixtures.golden_cases import GOLDEN, GoldenCase, find_cases, read_case
from suite import profiles
from suite.registry import Contract, contract_of
from suite.results import ResultStream
from suite.subjects.find import find_subject
from suite.subjects.protocol import Subject
from suite.summary import summarize

_GOLDEN = pytest.StashKey[list[GoldenCase]]()
_ROWS = pytest.StashKey[list[dict[str, Any]]]()
_STREAM = pytest.StashKey[ResultStream]()
_SUBJECTS = pytest.StashKey[dict[str, Subject]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pi0-compat")
    group.addoption(
        "--subject",
        action="append",
        metavar="NAME",
        help="implementation to ask (default: reference)",
    )
    group.addoption(
        "--golden",
        action="append",
        default=[],
        metavar="DIR",
        help="further folder of golden cases",
    )
    group.addoption("--results", metavar="FILE", help="write result rows as JSON lines")


def pytest_configure(config: pytest.Config) -> None:
    profiles.register()
    config.stash[_GOLDEN] = _read_golden(config)
    config.stash[_ROWS] = []
    config.stash[_SUBJECTS] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask every subject, on every golden case. Session scope gives all subjects the same Hypothesis examples."""
    config = metafunc.config
    if "subject" in metafunc.fixturenames and contract_of(metafunc.function):
        names = config.getoption("subject") or ["reference"]
        metafunc.parametrize("subject", names, indirect=True, scope="session")
    if "golden_case" in metafunc.fixturenames:
        _parametrize_golden(metafunc)


def pytest_itemcollected(item: pytest.Item) -> None:
    """What an implementation warns of is not a broken law; this project's own tests turn warnings into errors."""
    if _contract(item):
        item.add_marker(pytest.mark.filterwarnings("default"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make every subject before the first test, and open the stream of results if there is something to report."""
    config = session.config
    if config.option.collectonly or not any(_contract(item) for item in session.items):
        return
    for name in config.getoption("subject") or ["reference"]:
        config.stash[_SUBJECTS][name] = _find(name)
    if file := config.getoption("results"):
        described = [subject.describe() for subject in config.stash[_SUBJECTS].values()]
        config.stash[_STREAM] = ResultStream(config.rootpath / file, described)


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """The implementation under test."""
    return request.config.stash[_SUBJECTS][request.param]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A subject is not asked what it does not offer; that the absence is loud is a contract of its own."""
    contract = _contract(item)
    if contract is None:
        return
    subject = item.config.stash[_SUBJECTS][_subject_name(item)]
    if absent := [need for need in (*contract.needs, *_case_needs(item)) if need not in subject.capabilities]:
        pytest.skip(f"does not declare {', '.join(absent)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    contract = _contract(item)
    if contract and (report.when == "call" or (report.when == "setup" and not report.passed)):
        _record(item.config, _row(item, contract, report))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if stream := session.config.stash.get(_STREAM, None):
        stream.close()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if rows := config.stash[_ROWS]:
        terminalreporter.section("contracts")
        for line in summarize(rows):
            terminalreporter.write_line(line)


def _contract(item: pytest.Item) -> Contract | None:
    return contract_of(item.function) if isinstance(item, pytest.Function) else None


def _subject_name(item: pytest.Item) -> str:
    """What the item's subject was asked for by; a contract always has one."""
    assert isinstance(item, pytest.Function)
    return str(item.callspec.params["subject"])


def _case_needs(item: pytest.Item) -> list[str]:
    """What a golden case needs beside its contract: its family, and LoRA if it has adapters."""
    assert isinstance(item, pytest.Function)
    case = item.callspec.params.get("golden_case")
    if not isinstance(case, GoldenCase):
        return []
    adapted = case.spec["paligemma"]["lora"] or case.spec["action_expert"]["lora"]
    return [case.spec["family"], *(["lora"] if adapted else [])]


def _find(name: str) -> Subject:
    try:
        return find_subject(name)
    except LookupError as error:
        raise pytest.UsageError(f"--subject {name}: {error}") from error


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
    folders = [
        GOLDEN,
        *(Path(config.invocation_params.dir, folder) for folder in config.getoption("golden")),
    ]
    try:
        return [read_case(case) for folder in folders for case in find_cases(folder)]
    except (OSError, KeyError, ValueError) as error:
        raise pytest.UsageError(f"--golden: {error}") from error


def _row(item: pytest.Item, contract: Contract, report: pytest.TestReport) -> dict[str, Any]:
    assert isinstance(item, pytest.Function)
    subject = item.config.stash[_SUBJECTS][_subject_name(item)]
    case = "-".join(part for part in item.callspec.id.split("-") if part != _subject_name(item))
    return {
        "contract": contract.id,
        "law": contract.law,
        "source": contract.source,
        "case": case,
        "subject": subject.name,
        "outcome": _outcome(report),
        "seconds": round(report.duration, 3),
        "message": _message(report),
    }


def _outcome(report: pytest.TestReport) -> str:
    if report.skipped:
        return "absent"
    if report.passed:
        return "pass"
    return "fail" if report.when == "call" else "error"


def _message(report: pytest.TestReport) -> str:
    """The first line of what went wrong, or why the subject was not asked."""
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else str(report.longrepr)).partition("\n")[0]


def _record(config: pytest.Config, row: dict[str, Any]) -> None:
    config.stash[_ROWS].append(row)
    if stream := config.stash.get(_STREAM, None):
        stream.add(row)
