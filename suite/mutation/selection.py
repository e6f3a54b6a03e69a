"""A pytest plugin for mutation testing: select pairs of fault and contract, and skip the rest of a pair once caught.

Since there are hundreds of faults, it also groups the tests by fault, so that only one is in memory at a time. Of a
pair, the case that caught the fault in the recorded run comes first: if it still does, no other case has to run.
"""

import json
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import jax
import pytest
from hypothesis import Phase, settings

from suite.session.plugin import SUBJECTS_OF
from suite.session.registry import contract_of

# The last run that was recorded. Cases run in another order if it is outdated, and in the usual one without it.
_RECORDED = Path(__file__).parents[2] / "reports" / "faults.jsonl"
_PREFIX = "fault:"
_CAUGHT = pytest.StashKey[set[tuple[str, str]]]()
_WANTED = pytest.StashKey[set[tuple[str, str]] | None]()
_DONE = pytest.StashKey[int]()
# jax's caches keep the compiled programs of discarded faults.
_FAULTS_BETWEEN_CLEARINGS = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pairs", metavar="FILE", help="JSON file: the contracts to run on each fault (default: all)")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the pairs, so that each contract is collected for its own faults only."""
    # An example that shows a fault suffices; nobody reads the smallest one.
    settings.register_profile("faults", parent=settings.default, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    settings.load_profile("faults")
    config.stash[_CAUGHT], config.stash[_WANTED] = set(), None
    if file := config.getoption("pairs"):
        pairs = json.loads(Path(file).read_text(encoding="utf-8")).items()
        subjects: dict[str, list[str]] = defaultdict(list)
        for fault, contracts in pairs:
            for contract in contracts:
                subjects[contract].append(f"{_PREFIX}{fault}")
        config.stash[SUBJECTS_OF] = subjects
        config.stash[_WANTED] = {(fault, contract) for fault, contracts in pairs for contract in contracts}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop pairs that were not selected and group the tests by fault, so that each fault is created once.

    Of each fault, the cases that caught it in the recorded run come first.
    """
    if (wanted := config.stash[_WANTED]) is not None:
        items[:] = [item for item in items if _pair(item) in wanted]
    order = {name: n for n, name in enumerate(config.getoption("subject"))}
    caught = _recorded_catches()
    items.sort(key=lambda item: (order[f"{_PREFIX}{_pair(item)[0]}"], (*_pair(item), _case(item)) not in caught))


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Show a contract that fails as a fault that is caught: that is what it is for."""
    if report.when == "call" and report.failed:
        return "caught", "c", "CAUGHT"
    if report.skipped:
        # Nothing is printed: there are thousands.
        return "not needed any more", "", "CAUGHT BEFORE"
    if report.when == "call" and report.passed:
        return "cases that show no fault", ".", "NOT CAUGHT"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _pair(item) in item.config.stash[_CAUGHT]:
        pytest.skip("caught on an earlier case")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and report.when == "call":
        item.config.stash[_CAUGHT].add(_pair(item))
    return report


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Clear the compiled programs of finished faults every few faults."""
    if nextitem is None or _pair(nextitem)[0] != _pair(item)[0]:
        done = item.config.stash[_DONE] = item.config.stash.get(_DONE, 0) + 1
        if done % _FAULTS_BETWEEN_CLEARINGS == 0:
            jax.clear_caches()


def _recorded_catches() -> set[tuple[str, str, str]]:
    """Return fault, contract and case of each catch in the recorded run."""
    lines = _RECORDED.read_text(encoding="utf-8").splitlines() if _RECORDED.is_file() else []
    rows = [row for row in map(json.loads, lines) if row["kind"] == "row"]
    return {(row["fault"], contract, case) for row in rows for contract, case in row["caught_by"].items()}


def _pair(item: pytest.Item) -> tuple[str, str]:
    """Return the ids of a test's fault and contract."""
    assert isinstance(item, pytest.Function)
    contract = contract_of(item.function)
    assert contract is not None, f"{item.nodeid} is not a contract"
    return str(item.callspec.params["subject"]).removeprefix(_PREFIX), contract.id


def _case(item: pytest.Item) -> str:
    """Return the id of a test's case: its parameters without the fault."""
    assert isinstance(item, pytest.Function)
    return item.callspec.id.removeprefix(f"{_PREFIX}{_pair(item)[0]}").removeprefix("-")
