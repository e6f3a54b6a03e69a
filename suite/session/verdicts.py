"""Result rows of tests: the outcome, whether it was expected, and the start of the error message."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from suite.session.expectations import Expectation
from suite.session.registry import Contract
from suite.session.severity import severity_of
from suite.subjects.protocol import ProcessDiedError, SubjectError

# Maximum length of a message in characters: torch errors name every key of a model.
_LONGEST = 400
# The prefix of errors raised in another process; the original exception's type, which follows, is enough.
_ELSEWHERE = re.compile(r"^suite\.subjects\.(\w+\.)+((SubjectError|OutOfMemoryError): )?")

# The outcomes of cases that failed; their rows have a severity.
FAILED = ("fail", "known")
UNAVAILABLE = "unavailable: "


def expect(report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException] | None, entry: Expectation) -> str:
    """Compare a test's call with the failure that ``entry`` expects, and update its report.

    Returns:
      ``known`` if it failed as expected, ``fixed`` if it passed, ``fail`` if it failed differently.
    """
    if excinfo is None:
        report.outcome = "failed"
        report.longrepr = f"fixed: {entry} passed but is expected to fail; remove the entry ({entry.reason})"
        return "fixed"
    raised, text = _raised(excinfo.value)
    severity = severity_of(excinfo.value)
    if not entry.explains(raised, text, severity):
        found = f"{entry}: expected {entry.failure}; found {raised}, {severity}"
        report.sections.append(("another failure than the expected one", found))
        return "fail"
    report.outcome, report.wasxfail = "skipped", entry.reason
    return "known"


def row(
    contract: Contract,
    case: str,
    subject: str,
    phases: Sequence[pytest.TestReport],
    *,
    verdict: str | None = None,
    severity: str | None = None,
) -> dict[str, Any]:
    """Return the result row of a test.

    Args:
      contract: the contract it tests.
      case: the case id; empty if there is only one.
      subject: the subject's name.
      phases: the reports of setup, call and teardown.
      verdict: the result of ``expect`` for the call; None if no failure was expected.
      severity: how bad the call's failure is; None if it did not fail.
    """
    broken = next((report for report in phases if not report.passed), None)
    in_call = broken is None or broken.when == "call"
    outcome = verdict if verdict and in_call else _outcome(broken)
    return {
        "contract": contract.id,
        "law": contract.law,
        "source": contract.source,
        "case": case,
        "subject": subject,
        "outcome": outcome,
        **({"severity": severity} if outcome in FAILED else {}),
        "seconds": round(sum(report.duration for report in phases), 3),
        "message": "" if broken is None else _message(broken),
    }


def _raised(error: BaseException) -> tuple[str, str]:
    """Return an exception's type name and text; for a SubjectError, those of the original exception."""
    if isinstance(error, SubjectError):
        return error.kind, str(error)
    # Whether a process crashes or is killed depends on the machine's memory.
    died = isinstance(error, ProcessDiedError)
    return ProcessDiedError.__name__ if died else type(error).__name__, str(error)


def _outcome(broken: pytest.TestReport | None) -> str:
    if broken is None:
        return "pass"
    if broken.skipped:
        return "unavailable" if _message(broken).startswith(UNAVAILABLE) else "absent"
    return "fail" if broken.when == "call" else "error"


def _message(report: pytest.TestReport) -> str:
    """Return the start of the error message, or the reason why the case did not run."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else str(report.longrepr)).splitlines()
    # Assertions on many parameters state how many differ on the first line, and the first difference on the second.
    message = _ELSEWHERE.sub("", " ".join(line.strip() for line in lines[:2]))
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."
