"""``python -m suite.mutation``: run the contracts on the museum's faults and report the faults that none catches."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from suite.faults import all_faults
from suite.faults.fault import Fault
from suite.mutation.matrix import Matrix
from suite.mutation.run import Pairs, contract_cases, named_pairs, possible_pairs, reach_of_contracts, run_contracts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutation tests, or the fuzzer with ``--fuzz``. Return 1 if a fault is missed or fuzzing fails, else 0."""
    options, pytest_args = _parser().parse_known_args(arguments)
    if options.fuzz:
        from suite.mutation.commands import fuzz_commands
        from suite.mutation.fuzz import fuzz

        failures = fuzz(options.subject, options.fuzz)
        # The commands are the reference's.
        return _report(failures + fuzz_commands(options.fuzz) if options.subject == "reference" else failures)
    chosen = options.only or list(all_faults())
    faults = [all_faults()[name] for name in chosen]

    matrix = _run(faults, options, pytest_args)
    print(_summary(matrix))
    if options.write:
        matrix.write(options.write, faults)
    return _report(matrix.problems(faults, [] if options.only else contract_cases()))


def _run(faults: Sequence[Fault], options: argparse.Namespace, pytest_args: Sequence[str]) -> Matrix:
    """Run each fault against the contracts it names, the contracts that can catch it, or all of them."""
    if options.named:
        return run_contracts(faults, named_pairs(faults), pytest_args=pytest_args)
    # Recording what contracts enter takes as long as running them on one fault.
    if options.every or len(faults) == 1:
        return run_contracts(faults, None, pytest_args=pytest_args)
    reach = reach_of_contracts(pytest_args)
    pairs = possible_pairs(faults, reach)

    print(_scope(pairs, len(reach)))
    matrix = run_contracts(faults, pairs, pytest_args=pytest_args)
    for fault, contracts in pairs.items():
        matrix.passed[fault] |= reach.keys() - set(contracts)
    return matrix


def _scope(pairs: Pairs, contracts: int) -> str:
    """Return a line that says how many pairs of fault and contract will run."""
    chosen, faults = sum(map(len, pairs.values())), len(pairs)
    return f"{faults} faults, {contracts} contracts: {chosen} of {faults * contracts} pairs reach the changed code"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m suite.mutation", epilog="Other arguments go to pytest.")
    parser.add_argument("--named", action="store_true", help="run a fault only against the contracts that it names")
    parser.add_argument("--every", action="store_true", help="run a fault also against contracts that cannot catch it")
    parser.add_argument("--only", action="append", metavar="FAULT", type=_fault, help="run only this fault; repeatable")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the matrix to FILE as JSON lines")
    parser.add_argument(
        "--fuzz", type=int, metavar="N", help="instead, give a subject, and the commands, N damaged checkpoints"
    )
    parser.add_argument("--subject", default="reference", help="the subject to fuzz (default: %(default)s)")
    return parser


def _fault(name: str) -> str:
    """Return the name of a fault; there are hundreds, so the error for an unknown one has the closest alone."""
    if name in all_faults():
        return name
    close = difflib.get_close_matches(name, all_faults(), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else "docs/bugs.md and reports/faults.jsonl list them"
    raise argparse.ArgumentTypeError(f"no fault {name}; {hint}")


def _summary(matrix: Matrix) -> str:
    """Return a line per fault with the first three contracts that caught it, and how many faults were caught."""
    lines = []
    for fault in all_faults():
        if caught := matrix.caught.get(fault):
            more = f" and {len(caught) - 3} more" if len(caught) > 3 else ""
            lines.append(f"{fault}: caught by {', '.join(sorted(caught)[:3])}{more}")
    return "\n".join([*lines, f"{len(lines)} of {len(matrix.caught.keys() | matrix.passed.keys())} faults caught"])


def _report(problems: Sequence[object]) -> int:
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        print(f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}, named above", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
