"""``python -m benchmarks.gate``: did this change make a loader slower, hungrier or wrong?

nox -s gate                                                    the working tree next to its merge base with main
nox -s gate -- --baseline v1.2                                 next to another revision
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
from benchmarks.gate import telling
from benchmarks.gate.cells import cells
from benchmarks.gate.findings import Finding, Outcome
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
    """The exit status."""
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
    told = telling.Told(subject, baseline, candidate, time.monotonic() - started, findings)
    telling.print_table(told, Console() if sys.stdout.isatty() else Console(width=_WIDTH))
    telling.write_json(told, options.results / "gate.json")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as opened:
            opened.write(telling.markdown(told))
    passes = told.outcome is Outcome.INCONCLUSIVE and not options.strict
    return 0 if passes else int(told.outcome)


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
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="cells whose id contains it")
    parser.add_argument("--minutes", type=float, default=7.0, help="what is open then is inconclusive")
    parser.add_argument("--strict", action="store_true", help="inconclusive is a failure")
    parser.add_argument("--skip-contracts", action="store_true", help="only counts and times")
    parser.add_argument("--seed", type=int, default=0, help="of the order of measurements")
    parser.add_argument("--checkpoints", type=Path, default=ROOT / ".cache" / "benchmarks")
    parser.add_argument("--results", type=Path, default=ROOT / ".results", help="the folder of gate.json")
    parser.add_argument("--list", action="store_true", help="name the cells and stop")
    return parser


def _compare(options: argparse.Namespace, chosen: Sequence[Cell]) -> tuple[str, str, list[Finding]]:
    """The labels of both sides, and what was found.

    Raises:
      NoSideError: there is no such side.
    """
    with contextlib.ExitStack() as stack:
        is_reference = name_of(options.subject) == "reference"
        if not is_reference and not options.baseline:
            raise NoSideError(
                f"no baseline: {options.subject} is not of this project; give a checkout (--baseline FOLDER)"
            )
        baseline = stack.enter_context(side_of(options.baseline or baseline_revision()))
        candidate = stack.enter_context(side_of(options.candidate)) if options.candidate else working_tree()
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="pi0-compat-"))
        sides: tuple[Side, Side] = (baseline, candidate)
        gate = Gate(
            options.subject,
            sides,
            chosen,
            Processes(options.subject, sides, options.checkpoints, Path(scratch)),
            minutes=options.minutes,
            seed=options.seed,
            asks_contracts=not options.skip_contracts,
            show=stack.enter_context(_progress()),
        )
        return baseline.label, candidate.label, gate.run()


@contextlib.contextmanager
def _progress() -> Iterator[Show]:
    """A bar that says what is done now."""
    with terminal.progress() as progress:
        task = progress.add_task("")
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
