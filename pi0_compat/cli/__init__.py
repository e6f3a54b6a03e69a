"""The command ``pi0-compat``, one module a command: each prints what a function of the library returns.

``parsers`` has help, examples and arguments of each command; the module here runs it. Both are imported when the
command is asked for, so that help needs no jax, and no numpy either.
"""

import argparse
from typing import Protocol

from pi0_compat.cli.output import Output

# Done, or the answer is yes; the answer is no; an option or the input is wrong.
YES, NO, REFUSED = 0, 1, 2

# In the order of the help.
COMMANDS = {
    "inspect": "what a checkpoint is: family, layout, sizes, adapters, completeness",
    "check": "does it load into a config, for training and for inference, and how to fix it if not",
    "diff": "compare two checkpoints, parameter by parameter, across layouts",
    "fold": "fold LoRA adapters into the weights they adapt",
    "extract": "extract the LoRA adapters of a checkpoint",
    "attach": "attach LoRA adapters to a base checkpoint",
    "convert": "write a checkpoint in another layout",
    "doctor": "which silent faults the libraries of an interpreter have",
    "plan": "will a training fit a device, what would make it fit, how fast can it be",
}


class CommandParser(Protocol):
    """A module of ``parsers``; its docstring is the description of the command.

    Attributes:
      EXAMPLES: shown below the help, a command a line.
    """

    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the command."""


class Command(Protocol):
    """The module that runs a command."""

    def run(self, options: argparse.Namespace, output: Output) -> int:
        """Run it, and return ``YES`` or ``NO``."""
