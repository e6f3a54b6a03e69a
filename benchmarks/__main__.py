"""``python -m benchmarks``: measure subjects side by side, write the result file, print it.

python -m benchmarks --size small                                     the reference, on the CPU
python -m benchmarks --size full --device gpu                         on a plain checkout, without nox or network
python -m benchmarks --size small --subject openpi=../openpi/.venv/bin/python
python -m benchmarks check reports/results/*/*.json                   do the files keep the rules?
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import running
from benchmarks.cells.cells import Cell, cells_of
from benchmarks.cells.sizes import sizes
from benchmarks.measure.plan import Plan
from benchmarks.results import validity
from suite.session.find import resolve
from suite.subjects.protocol import UnavailableError

_ROOT = Path(__file__).parents[1]
_CHECKPOINTS = _ROOT / ".cache" / "benchmarks"
_RESULTS = _ROOT / ".results" / "benchmarks"


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0 if every cell that could be measured counts."""
    if arguments[:1] == ["check"]:
        return _check([Path(argument) for argument in arguments[1:]])
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
    parser.add_argument("--device", default="cpu", choices=("cpu", "gpu", "tpu"))
    parser.add_argument(
        "--devices",
        action="append",
        type=_at_least_one,
        metavar="COUNT",
        help="train over this many devices too; repeatable; 1: over no others. Default: on the CPU 8 at tiny",
    )
    parser.add_argument(
        "--subject",
        action="append",
        default=[],
        metavar="NAME[=PYTHON]",
        help="next to the reference, a name or the path of a harness; repeatable",
    )
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="cells whose id contains it")
    parser.add_argument("--passes", type=int, help="fresh processes of each cell")
    parser.add_argument("--batch", action="append", type=int, help="samples a training step, instead of the size's own")
    parser.add_argument("--cold", action="store_true", help="load with an empty page cache too")
    parser.add_argument("--seed", type=int, default=0, help="of the order of measurements")
    parser.add_argument("--checkpoints", type=Path, default=_CHECKPOINTS, help="the folder where they are kept")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="the folder of the result file")
    parser.add_argument("--list", action="store_true", help="name the cells and stop")
    return parser


def _at_least_one(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {count}")
    return count


def _cells(options: argparse.Namespace) -> list[Cell]:
    known = sizes(options.device, options.batch, options.devices)
    cells = [cell for name in options.size or ("tiny", "small") for cell in cells_of(known[name], cold=options.cold)]
    return [cell for cell in cells if not options.only or any(text in cell.id for text in options.only)]


def _check(files: Sequence[Path]) -> int:
    """Print what the rules have to say of each file."""
    broken = 0
    for file in files:
        found = validity.check_file(file)
        for problem in found:
            print(f"{file}: {problem}")
        broken += any(problem.invalid for problem in found)
    print(f"{len(files) - broken} of {len(files)} files keep the rules")
    return int(broken > 0 or not files)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
