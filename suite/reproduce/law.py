"""Run one case of one contract against one subject, with its calls recorded."""

import dataclasses
import difflib
import importlib
from pathlib import Path
from typing import Any

import pytest

from suite.reproduce.errors import CannotReproduceError
from suite.reproduce.recording import Call, Recorder
from suite.session.registry import Contract, contract_of
from suite.subjects.process.harness_files import parse
from suite.subjects.protocol import Subject

_ROOT = Path(__file__).parents[2]
# The suite's own.
CONTRACTS = Path(__file__).parents[1] / "contracts"


@dataclasses.dataclass
class Ran:
    """A case of a contract that ran.

    Attributes:
      contract: the contract.
      case: the case id.
      calls: what it asked of the subject.
      error: what it raised; None if it passed.
      skipped: why it did not run; "" if it did.
      description: the subject's description.
    """

    contract: Contract
    case: str
    calls: list[Call]
    error: BaseException | None
    skipped: str
    description: dict[str, Any]


class _Recording:
    """A pytest plugin that records the calls of the suite's own subject."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.subject_itself: Subject | None = None

    @pytest.fixture(scope="session")
    def subject(self, subject: Subject) -> Any:
        """The implementation under test, with every call recorded."""
        self.subject_itself = subject
        return self._recorder.wrap(subject)


class _Watch:
    """A pytest plugin that keeps one case, records its calls, and catches what it raises."""

    def __init__(self, law: str, folder: Path) -> None:
        self._contract, _, case = law.partition("[")
        self._case = case.removesuffix("]")
        self._recorder = Recorder(folder)
        self._known: list[str] = []
        self.ran: Ran | None = None
        self._recording = _Recording(self._recorder)

    def pytest_configure(self, config: pytest.Config) -> None:
        # Registered after the plugin whose fixture it wraps.
        config.pluginmanager.register(self._recording)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = [item for item in items if isinstance(item, pytest.Function)]
        laws = [(item, contract.id, _case(item)) for item in found if (contract := contract_of(item.function))]
        self._known = [f"{contract}[{case}]" if case else contract for _, contract, case in laws]
        items[:] = [item for item, *law in laws if law == [self._contract, self._case]]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report = yield
        assert isinstance(item, pytest.Function)
        contract = contract_of(item.function)
        error = call.excinfo.value if call.excinfo else None
        if contract and (call.when == "call" or (error and self.ran is None)):
            skipped = str(error) if isinstance(error, pytest.skip.Exception) else ""
            itself = self._recording.subject_itself
            about = itself.describe() if itself else {}
            self.ran = Ran(contract, self._case, self._recorder.calls, error, skipped, about)
        return report

    def unknown(self) -> str:
        """Return a message with the closest cases, for a law that there is not."""
        law = f"{self._contract}[{self._case}]" if self._case else self._contract
        close = difflib.get_close_matches(law, self._known, n=3, cutoff=0.3)
        return f"no such contract or case; did you mean {' or '.join(close)}?" if close else "no such contract or case"


def run_law(subject: str, law: str, folder: Path, contracts: Path = CONTRACTS) -> Ran:
    """Run one case and return what happened.

    Args:
      subject: ``NAME[=PYTHON]``.
      law: ``contract[case]``, or the contract's id alone if it has one case.
      folder: where to keep copies of the files that the case gives the subject.
      contracts: the folder of the contracts.

    Raises:
      CannotReproduceError: there is no such case, or it did not run.
    """
    area = law.partition(".")[0]
    if area == "safety":
        raise CannotReproduceError("a check of security is told in words, without the input that gets past it")
    file = contracts / f"test_{area}.py"
    if not file.is_file():
        raise CannotReproduceError(f"no such contract: there is no area {area}")
    watch = _Watch(law, folder)
    project = ("-c", str(_ROOT / "pyproject.toml"), "--rootdir", str(_ROOT))
    quiet = (*project, "-q", "--no-header", "--no-summary", "--tb=no", "-p", "no:cacheprovider")
    code = pytest.main([str(file), "--subject", subject, *quiet], plugins=[watch])
    if watch.ran is None:
        if code == pytest.ExitCode.USAGE_ERROR:
            raise CannotReproduceError("pytest says why, above")
        raise CannotReproduceError(watch.unknown())
    if watch.ran.skipped:
        raise CannotReproduceError(f"did not run: {watch.ran.skipped}")
    return watch.ran


def contract_named(law: str) -> Contract:
    """Return the contract of ``contract[case]``.

    Raises:
      CannotReproduceError: there is none.
    """
    area, _, fact = law.partition("[")[0].partition(".")
    module = (
        importlib.import_module(f"suite.contracts.test_{area}") if (CONTRACTS / f"test_{area}.py").is_file() else None
    )
    found = contract_of(getattr(module, f"test_{fact}", _case))
    if found is None:
        raise CannotReproduceError("no such contract")
    return found


def _case(item: pytest.Function) -> str:
    name = parse(str(item.callspec.params["subject"]))[0]
    return item.callspec.id.removeprefix(name).removeprefix("-")
