"""``python -m suite.reproduce SUBJECT "contract[case]"``: write a silent failure as a script and an issue.

The folder needs nothing of this project: input files, a script that calls the implementation's own API, what it
printed, the versions, and an issue text.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from suite.reproduce import sizes
from suite.reproduce.errors import CannotReproduceError
from suite.subjects.process.harness_files import parse
from suite.subjects.protocol import UnavailableError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder of a reproducer; return 0, or 1 if the failure cannot become a script."""
    options = _parser().parse_args(arguments)
    if not options.usual_sizes:
        sizes.shrink()
    # The contracts are imported after the sizes are set.
    from suite.reproduce.law import CONTRACTS
    from suite.reproduce.reproducing import reproduce

    try:
        places = {"template": options.template, "contracts": options.contracts or CONTRACTS}
        folder = reproduce(options.subject, options.law, options.out, **places)
    except (CannotReproduceError, LookupError, UnavailableError) as error:
        print(f"error: {options.law} of {parse(options.subject)[0]}: {error}", file=sys.stderr)
        return 1
    print(f"wrote {folder}: python {folder / 'reproduce.py'} shows the failure; issue.md is the text to file")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m suite.reproduce", description=__doc__)
    parser.add_argument("subject", help="NAME[=PYTHON], as --subject takes it")
    parser.add_argument("law", metavar="CONTRACT[CASE]", help="the contract that fails, with its case in brackets")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: reproducers/SUBJECT/LAW)")
    parser.add_argument("--template", type=Path, metavar="FILE", help="how the API of a subject of your own is called")
    parser.add_argument("--contracts", type=Path, metavar="FOLDER", help="contracts of your own (default: the suite's)")
    parser.add_argument("--usual-sizes", action="store_true", help="keep the sizes of the suite's models (700 kB)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
