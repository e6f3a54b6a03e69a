"""Say what a checkpoint is, from its names and shapes alone; no array is read."""

import argparse

from suite.commands import YES
from suite.commands.output import Output
from suite.reference.checkpoints import read_metadata

EXAMPLES = """\
  pi0-compat inspect checkpoints/pi0_base/params
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("path", metavar="PATH", help="a checkpoint in any layout: a file or folder, local or a URL")


def run(options: argparse.Namespace, output: Output) -> int:
    """Say what is there."""
    stored = read_metadata(options.path)
    output.give({"path": str(stored.path)}, f"{stored.path}: {len(stored.leaves)} parameters")
    return YES
