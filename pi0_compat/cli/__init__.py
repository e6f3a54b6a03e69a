"""What ``pi0-compat`` can do, one module a command; each is thin and leaves the work to the reference.

A module has ``EXAMPLES`` (shown below its help), ``add_arguments(parser)`` and ``run(options, output)``, which returns
an exit status: ``YES`` or ``NO``. It is imported when its command is asked for, so that ``--help`` needs no jax.
"""

import argparse
from typing import Protocol

from pi0_compat.cli.output import Output

# Done, or the answer is yes; the answer is no; the question or the input is wrong.
YES, NO, REFUSED = 0, 1, 2

# In the order of the help.
COMMANDS = {
    "inspect": "what a checkpoint is: family, layout, sizes, adapters, completeness",
    "check": "would it load into a config, for training and for inference, and what to do if not",
    "diff": "two checkpoints, leaf by leaf, whatever their layouts",
    "fold": "LoRA adapters into the weights they adapt",
    "extract": "the LoRA adapters alone",
    "attach": "LoRA adapters onto a base checkpoint",
    "convert": "a checkpoint in another layout",
}


class Command(Protocol):
    """The module of a command."""

    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare what the command takes."""

    def run(self, options: argparse.Namespace, output: Output) -> int:
        """Do it, and return an exit status."""
