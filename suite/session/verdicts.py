"""What came of a test, as a row: its outcome, whether that was expected, and the beginning of what went wrong."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from suite.session.expectations import Expectation
from suite.session.registry import Contract
from suite.subjects.process.elsewhere import SubjectError

# Of a message, in letters: torch names every key of a model.
_LONGEST = 400
# How pytest begins a message on what came from another process: the type over there is enough.
_ELSEWHERE = re.compile(rf"^suite\.subjects\.\w+\.({SubjectError.__qualname__}: )?")

UNAVAILABLE = "unavailable: "


def expect(report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException] | None, entry: Expectation) -> str:
    """Judge a test that is known to fail, in the report of its call: it is ``known``, ``fixed`` or another ``fail``."""
    if excinfo is None:
        report.outcome = "failed"
        report.longrepr = f"fixed: it passed, though {entry} is expected to fail; remove the entry ({entry.reason})"
        return "fixed"
    raised, text = _raised(excinfo.value)
    if not entry.explains(raised, text):
        return "fail"
    report.outcome, report.wasxfail = "skipped", entry.reason
    return "known"


def row(
    contract: Contract, case: str, subject: str, phases: Sequence[pytest.TestReport], judged: str | None
) -> dict[str, Any]:
    """The row of a test, of the reports of its phases.

    Args:
      judged: the outcome of its call, if a failure was expected.
    """
    broken = next((report for report in phases if not report.passed), None)
    own = broken is None or broken.when == "call"
    return {
        "contract": contract.id,
        "law": contract.law,
        "source": contract.source,
        "case": case,
        "subject": subject,
        "outcome": judged if judged and own else _outcome(broken),
        "seconds": round(sum(report.duration for report in phases), 3),
        "message": "" if broken is None else _message(broken),
    }


def _raised(error: BaseException) -> tuple[str, str]:
    """Type and text of an exception: of the one in the other process, if it came from there."""
    return error.kind if isinstance(error, SubjectError) else type(error).__name__, str(error)


def _outcome(broken: pytest.TestReport | None) -> str:
    if broken is None:
        return "pass"
    if broken.skipped:
        return "unavailable" if _message(broken).startswith(UNAVAILABLE) else "absent"
    return "fail" if broken.when == "call" else "error"


def _message(report: pytest.TestReport) -> str:
    """The beginning of what went wrong, or why the subject was not asked."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else str(report.longrepr)).splitlines()
    # An assertion on many parameters says how many differ, then the first of them.
    message = _ELSEWHERE.sub("", " ".join(line.strip() for line in lines[:2]))
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."
