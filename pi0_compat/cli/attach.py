"""Run ``pi0-compat attach``."""

import argparse

from pi0_compat.checkpoints.lora import attach_checkpoint
from pi0_compat.cli import YES, writing
from pi0_compat.cli.config_files import read_alpha, read_config
from pi0_compat.cli.output import Output


def run(options: argparse.Namespace, output: Output) -> int:
    """Attach the adapters, and print what was written."""
    config = read_config(options)
    made = attach_checkpoint(
        options.path,
        options.base,
        options.out,
        config=config,
        alpha=read_alpha(options),
        rslora=options.rslora,
        progress=output.progress,
    )
    document = writing.document(options.path, options.out, made.leaves, made.assets)
    lines = writing.scales(made, options) if made.origin == "peft" else []
    output.give(
        document | {"base": options.base, **writing.scales_document(made)},
        "\n".join([*lines, *writing.written(made.path, made.leaves, made.assets)]),
    )
    return YES
