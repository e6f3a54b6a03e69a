"""Run ``pi0-compat fold``."""

import argparse

from pi0_compat.checkpoints.lora import fold_checkpoint
from pi0_compat.cli import YES, writing
from pi0_compat.cli.config_files import read_alpha, read_config
from pi0_compat.cli.output import Output


def run(options: argparse.Namespace, output: Output) -> int:
    """Fold the adapters, and print what rounding took of each."""
    config = read_config(options)
    made = fold_checkpoint(
        options.path,
        options.out,
        config=config,
        alpha=read_alpha(options),
        rslora=options.rslora,
        dtype=options.dtype,
        progress=output.progress,
    )
    writing.warn_of_losses(made.lost, output)
    text = [
        *writing.scales(made, options),
        *writing.losses(made.lost),
        *writing.written(made.path, made.leaves, made.assets),
    ]
    document = writing.document(options.path, options.out, made.leaves, made.assets)
    output.give(document | {"lost": made.lost, **writing.scales_document(made)}, "\n".join(text))
    return YES
