"""Run ``pi0-compat extract``."""

import argparse

from pi0_compat.checkpoints.lora import extract_checkpoint
from pi0_compat.cli import YES, writing
from pi0_compat.cli.config_files import read_config
from pi0_compat.cli.output import Output


def run(options: argparse.Namespace, output: Output) -> int:
    """Extract the adapters or the base, and print what was written."""
    config = read_config(options)
    made = extract_checkpoint(options.path, options.out, config=config, base=options.base, progress=output.progress)
    output.give(
        writing.document(options.path, options.out, made.leaves, made.assets),
        "\n".join(writing.written(made.path, made.leaves, made.assets)),
    )
    return YES
