"""Run ``pi0-compat extract``."""

import argparse

from pi0_compat.checkpoints.lora import extract_checkpoint
from pi0_compat.cli import YES, writing
from pi0_compat.cli.config_files import read_alpha, read_config
from pi0_compat.cli.output import Output


def run(options: argparse.Namespace, output: Output) -> int:
    """Extract the adapters or the base, and print what was written."""
    config = read_config(options)
    made = extract_checkpoint(
        options.path,
        options.out,
        config=config,
        alpha=read_alpha(options),
        rslora=options.rslora,
        base=options.base,
        progress=output.progress,
    )
    if made.origin == "none" and not options.base:
        output.warn("alpha is not known, and not recorded with the adapters; to record it: --config or --lora-alpha")
    output.give(
        writing.document(options.path, options.out, made.leaves, made.assets) | writing.scales_document(made),
        "\n".join(writing.written(made.path, made.leaves, made.assets)),
    )
    return YES
