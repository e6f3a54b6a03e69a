"""Result rows of tests: the outcome, whether it was expected, and the start of the error message."""

import re
from collections.abc import Mapping, Sequence
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
    raised, severity = raised_type(excinfo.value), severity_of(excinfo.value)
    text = "\n".join([str(excinfo.value), *getattr(excinfo.value, "__notes__", ())])
    if not entry.explains(raised, text, severity):
        found = f"{entry}: expected {entry.failure}; found {raised}, {severity}"
        report.sections.append(("another failure than the expected one", found))
        return "fail"
    report.outcome, report.wasxfail = "skipped", entry.reason
    return "known"


def describe(error: BaseException, needs: Sequence[str]) -> dict[str, Any]:
    """Return what the row of a failed case says about its failure.

    Args:
      error: the exception that the call ended with.
      needs: the capabilities that the case needs.
    """
    return {"severity": severity_of(error), "raised": raised_type(error), "needs": list(needs)}


def row(
    contract: Contract,
    case: str,
    subject: str,
    phases: Sequence[pytest.TestReport],
    *,
    verdict: str | None = None,
    failure: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the result row of a test.

    Args:
      contract: the contract it tests.
      case: the case id; empty if there is only one.
      subject: the subject's name.
      phases: the reports of setup, call and teardown.
      verdict: the result of ``expect`` for the call; None if no failure was expected.
      failure: what ``describe`` returned for the call's exception; None if it did not fail.
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
        **(failure if failure and outcome in FAILED else {}),
        "seconds": round(sum(report.duration for report in phases), 3),
        "message": "" if broken is None else _message(broken),
    }


def raised_type(error: BaseException) -> str:
    """Return the name of an exception's type; for a SubjectError, of the original exception."""
    if isinstance(error, SubjectError):
        return error.kind
    # Whether a process crashes or is killed depends on the machine's memory.
    return ProcessDiedError.__name__ if isinstance(error, ProcessDiedError) else type(error).__name__


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
