"""``python -m suite.mutation``: show the museum's faults to the contracts and say who got past."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from suite.faults import all_faults
from suite.faults.fault import Fault
from suite.mutation.matrix import Matrix
from suite.mutation.run import Pairs, contract_cases, named_pairs, possible_pairs, reach_of_contracts, show


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; 0 if every fault was caught as it should be."""
    options, pytest_args = _parser().parse_known_args(arguments)
    if options.fuzz:
        from suite.mutation.fuzz import fuzz

        return _tell(fuzz(options.subject, options.fuzz))
    chosen = options.only or list(all_faults())
    faults = [all_faults()[name] for name in chosen]
    matrix = _show(faults, options, pytest_args)
    print(_summary(matrix))
    if options.write:
        matrix.write(options.write, faults)
    return _tell(matrix.complaints(faults, [] if options.only else contract_cases()))


def _show(faults: Sequence[Fault], options: argparse.Namespace, pytest_args: Sequence[str]) -> Matrix:
    """Show the faults to the contracts that they name, to those that may catch them, or to every one."""
    if options.named:
        return show(faults, named_pairs(faults), pytest_args=pytest_args)
    # To find what contracts enter takes as long as to show them one fault.
    if options.every or len(faults) == 1:
        return show(faults, None, pytest_args=pytest_args)
    reach = reach_of_contracts(pytest_args)
    pairs = possible_pairs(faults, reach)
    print(_share(pairs, len(reach)))
    matrix = show(faults, pairs, pytest_args=pytest_args)
    for fault, contracts in pairs.items():
        matrix.passed[fault] |= reach.keys() - set(contracts)
    return matrix


def _share(pairs: Pairs, contracts: int) -> str:
    """How much there is to do."""
    shown, faults = sum(map(len, pairs.values())), len(pairs)
    return f"{faults} faults, {contracts} contracts: {shown} of {faults * contracts} pairs enter what the fault changes"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m suite.mutation", epilog="Other arguments go to pytest.")
    parser.add_argument("--named", action="store_true", help="show a fault only to the contracts that it names")
    parser.add_argument("--every", action="store_true", help="show a fault also to contracts that cannot catch it")
    parser.add_argument("--only", action="append", metavar="FAULT", choices=list(all_faults()), help="only this fault")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the matrix as JSON lines")
    parser.add_argument("--fuzz", type=int, metavar="N", help="damage N checkpoints at random instead")
    parser.add_argument("--subject", default="reference", help="whom to give the damaged checkpoints")
    return parser


def _summary(matrix: Matrix) -> str:
    """How many contracts caught each fault, and the first of them."""
    lines = []
    for fault in all_faults():
        if caught := matrix.caught.get(fault):
            shown = ", ".join(sorted(caught)[:3])
            lines.append(f"{fault}: {len(caught)} contracts ({shown}{', ...' if len(caught) > 3 else ''})")
    return "\n".join(lines)


def _tell(complaints: Sequence[object]) -> int:
    for complaint in complaints:
        print(f"error: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
