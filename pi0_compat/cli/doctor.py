"""Run ``pi0-compat doctor``."""

import argparse
import sys
from collections.abc import Iterator

from pi0_compat.cli import NO, YES
from pi0_compat.cli.output import Output, counted
from pi0_compat.doctor.diagnose import Diagnosis, Finding, diagnose


def run(options: argparse.Namespace, output: Output) -> int:
    """Diagnose the interpreter, and print its versions and faults."""
    found = diagnose(options.python or sys.executable)
    output.give(
        {
            "interpreter": found.interpreter,
            "python": found.python,
            "versions": found.versions,
            "faults": [_plain(finding) for finding in found.findings],
        },
        "\n".join(_lines(found)),
    )
    return NO if any(finding.answer == "applies" for finding in found.findings) else YES


def _plain(finding: Finding) -> dict[str, str]:
    fault = finding.fault
    return {
        "id": fault.id,
        "package": fault.package,
        "version": finding.version,
        "answer": finding.answer,
        "reason": finding.reason,
        "what": fault.what,
        "todo": fault.todo,
        "source": fault.source,
    }


def _lines(found: Diagnosis) -> Iterator[str]:
    yield f"{found.interpreter}: Python {found.python}"
    yield f"  {', '.join(f'{name} {version}' for name, version in found.versions.items()) or 'none of the libraries'}"
    applying = [finding for finding in found.findings if finding.answer == "applies"]
    yield f"{counted(len(applying), 'known fault')} that no error tells of" if applying else "no known fault applies"
    for finding in applying:
        yield f"  ! {finding.fault.package} {finding.version}, by {finding.reason}: {finding.fault.what}"
        yield f"    to do: {finding.fault.todo}"
    for finding in found.findings:
        if finding.answer == "unknown":
            yield f"  ? {finding.fault.package} {finding.version}: {finding.fault.id}: {finding.reason}"
