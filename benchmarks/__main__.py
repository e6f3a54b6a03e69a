"""``python -m benchmarks``: measure subjects side by side, write the result file, print it.

python -m benchmarks --size small                                     the reference, on the CPU
python -m benchmarks --size full --device gpu                         on a plain checkout, without nox or network
python -m benchmarks --size small --subject openpi=../openpi/.venv/bin/python
python -m benchmarks --family pi0_fast --size small                   pi0-FAST in place of pi0
python -m benchmarks check reports/results/*/*.json                   check result files against the rules
python -m benchmarks accelerator --subject openpi=PYTHON              ten minutes on a GPU: steps, sampling, loads
python -m benchmarks limits --size full                               the least time that loads and commands can take
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import accelerator, limits, running
from benchmarks.cells.cells import FAMILIES, Cell, cells_of
from benchmarks.cells.sizes import sizes
from benchmarks.measure.plan import Plan
from benchmarks.results import validity
from suite.session.find import resolve
from suite.subjects.protocol import UnavailableError

_ROOT = Path(__file__).parents[1]
_CHECKPOINTS = _ROOT / ".cache" / "benchmarks"
_RESULTS = _ROOT / ".results" / "benchmarks"


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks and return the exit status: 0 if every measured cell is valid."""
    if arguments[:1] == ["check"]:
        return _check([Path(argument) for argument in arguments[1:]])
    if arguments[:1] == ["limits"]:
        return limits.main(arguments[1:])
    if arguments[:1] == ["accelerator"]:
        return accelerator.main(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    cells = _cells(options)
    if options.list or not cells:
        print("\n".join(cell.id for cell in cells) or f"no cell contains {options.only}", file=sys.stderr)
        return int(not cells)
    try:
        subjects = [resolve(subject) for subject in ("reference", *options.subject)]
    except (LookupError, UnavailableError) as error:
        parser.error(f"--subject: {error}")
    plan = Plan(
        list(dict.fromkeys(subjects)),
        cells,
        passes=options.passes,
        device=options.device,
        folder=options.checkpoints,
        seed=options.seed,
    )
    return running.run(plan, options.checkpoints, options.results, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure loads, adapters, training steps and sampling."
    )
    parser.add_argument("--size", action="append", choices=("tiny", "small", "full"), help="default: tiny and small")
    parser.add_argument(
        "--family", action="append", choices=FAMILIES, help="of the models; repeatable. Default: pi0, as pi05 is alike"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "gpu", "tpu"))
    parser.add_argument(
        "--devices",
        action="append",
        type=_at_least_one,
        metavar="COUNT",
        help="also train over COUNT devices; repeatable; 1 turns it off. Default: 8 for size tiny on the CPU",
    )
    parser.add_argument(
        "--subject",
        action="append",
        default=[],
        metavar="NAME[=PYTHON]",
        help="an implementation to measure beside the reference: a name or the path of a harness; repeatable",
    )
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="only cells whose id contains TEXT")
    parser.add_argument("--passes", type=int, help="fresh processes per cell")
    parser.add_argument("--batch", action="append", type=int, help="batch size of training steps")
    parser.add_argument("--cold", action="store_true", help="also load with an empty page cache")
    parser.add_argument("--seed", type=int, default=0, help="seed of the measurement order")
    parser.add_argument("--checkpoints", type=Path, default=_CHECKPOINTS, help="folder in which checkpoints are kept")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="folder for the result file")
    parser.add_argument("--list", action="store_true", help="list the cells and exit")
    return parser


def _at_least_one(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {count}")
    return count


def _cells(options: argparse.Namespace) -> list[Cell]:
    known = sizes(options.device, options.batch, options.devices)
    cells = [
        cell
        for name in options.size or ("tiny", "small")
        for family in options.family or FAMILIES[:1]
        for cell in cells_of(known[name], cold=options.cold, family=family)
    ]
    return [cell for cell in cells if not options.only or any(text in cell.id for text in options.only)]


def _check(files: Sequence[Path]) -> int:
    """Print the problems of each file; return 1 if a file breaks a rule or none was given."""
    broken = 0
    for file in files:
        problems = validity.check_file(file)
        for problem in problems:
            print(f"{file}: {problem}")
        broken += any(problem.invalid for problem in problems)
    print(f"{len(files) - broken} of {len(files)} files keep the rules")
    return int(broken > 0 or not files)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
