"""Show the versions of an interpreter's libraries, and which known silent faults of theirs apply.

Of jax, flax, orbax, tensorstore, safetensors, torch, transformers, peft, lerobot, gemma and numpy. A fault that a probe
can show is probed in that interpreter, in a temporary folder; others follow from the version. Nothing is installed or
changed. Exit status 1: a fault applies.

--json prints: interpreter, python, versions (by package), faults (id, package, version, answer, reason, what, todo,
source).
"""

import argparse

EXAMPLES = """\
  pi0-compat doctor                         the interpreter that runs pi0-compat
  pi0-compat doctor ../openpi/.venv/bin/python
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "python", metavar="PYTHON", nargs="?", help="the interpreter to ask; default: the one that runs pi0-compat"
    )
