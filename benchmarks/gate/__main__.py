"""``python -m benchmarks.gate``: did this change make a loader slower, larger or wrong?

nox -s gate                                                    the working tree against its merge base with main
nox -s gate -- --baseline v1.2                                 against another revision
nox -s gate -- --candidate "orbax-checkpoint==0.11.22"         this code with another version of a package
nox -s gate -- --baseline venv:../old                          this code in another environment
nox -s gate -- --subject openpi=PYTHON --baseline ../openpi-main --candidate ../openpi

Exit status: 0 pass, 1 regression, 2 error (a cell is missing, no baseline, nothing was measured), 3 inconclusive (0
without --strict).
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.cells.cells import Cell
from benchmarks.gate import gate_report
from benchmarks.gate.findings import Finding, Outcome
from benchmarks.gate.gate_cells import cells
from benchmarks.gate.processes import Processes
from benchmarks.gate.running import Gate, Show
from benchmarks.gate.sides import NoSideError, Side, baseline_revision, side_of, working_tree
from benchmarks.measure.process import ROOT
from benchmarks.results import terminal
from suite.session.find import resolve
from suite.subjects.process.harness_files import name_of
from suite.subjects.protocol import UnavailableError

_WIDTH = 140


def main(arguments: Sequence[str]) -> int:
    """Run the gate and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    chosen = cells(options.only)
    if options.list:
        print("\n".join(cell.id for cell in chosen))
        return 0
    started = time.monotonic()
    try:
        options.subject = resolve(options.subject)
    except (LookupError, UnavailableError) as error:
        parser.error(f"--subject: {error}")
    try:
        baseline, candidate, findings = _compare(options, chosen)
    except NoSideError as error:
        baseline, candidate = options.baseline or "no baseline", options.candidate or "the working tree"
        findings = [Finding(cell="all", metric="sides", verdict="error", note=str(error))]
    subject = name_of(options.subject)
    report = gate_report.Report(subject, baseline, candidate, time.monotonic() - started, findings)
    gate_report.print_table(report, Console() if sys.stdout.isatty() else Console(width=_WIDTH))
    gate_report.write_json(report, options.results / "gate.json")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as opened:
            opened.write(gate_report.markdown(report))
    passes = report.outcome is Outcome.INCONCLUSIVE and not options.strict
    return 0 if passes else int(report.outcome)


def _parser() -> argparse.ArgumentParser:
    described, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="nox -s gate --",
        description=described,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    side = "a revision, a folder, venv:FOLDER or PACKAGE==VERSION"
    parser.add_argument(
        "--subject", default="reference", metavar="NAME[=PYTHON]", help="a name or the path of a harness"
    )
    parser.add_argument("--baseline", help=f"{side}; default: the merge base with main")
    parser.add_argument("--candidate", help=f"{side}; default: the working tree")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="only cells whose id contains TEXT")
    parser.add_argument(
        "--minutes", type=float, default=7.0, help="time limit; metrics undecided by then are inconclusive"
    )
    parser.add_argument("--strict", action="store_true", help="fail if the result is inconclusive")
    parser.add_argument("--skip-contracts", action="store_true", help="only count and time")
    parser.add_argument("--seed", type=int, default=0, help="seed of the measurement order")
    parser.add_argument("--checkpoints", type=Path, default=ROOT / ".cache" / "benchmarks")
    parser.add_argument("--results", type=Path, default=ROOT / ".results", help="folder for gate.json")
    parser.add_argument("--list", action="store_true", help="list the cells and exit")
    return parser


def _compare(options: argparse.Namespace, chosen: Sequence[Cell]) -> tuple[str, str, list[Finding]]:
    """Return the labels of both sides, and the findings.

    Raises:
      NoSideError: a side does not exist.
    """
    with contextlib.ExitStack() as stack:
        is_reference = name_of(options.subject) == "reference"
        if not is_reference and not options.baseline:
            raise NoSideError(
                f"no baseline: {options.subject} is not part of this project; pass a checkout (--baseline FOLDER)"
            )
        baseline = stack.enter_context(side_of(options.baseline or baseline_revision()))
        candidate = stack.enter_context(side_of(options.candidate)) if options.candidate else working_tree()
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="pi0-compat-"))
        sides: tuple[Side, Side] = (baseline, candidate)
        gate = Gate(
            options.subject,
            sides,
            chosen,
            stack.enter_context(Processes(options.subject, sides, options.checkpoints, Path(scratch))),
            minutes=options.minutes,
            seed=options.seed,
            asks_contracts=not options.skip_contracts,
            show=stack.enter_context(_progress()),
        )
        return baseline.label, candidate.label, gate.run()


@contextlib.contextmanager
def _progress() -> Iterator[Show]:
    """Yield a callback that shows the current activity on a progress bar."""
    with terminal.progress() as progress:
        task = progress.add_task("")
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
