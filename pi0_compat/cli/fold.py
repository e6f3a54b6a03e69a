"""Fold LoRA adapters into the weights they adapt: a base model that computes what the LoRA model computes.

Sums are formed in float32 and rounded once, to the asked dtype; what rounding took of each adapter is told. OUT becomes
the folder of a step: params, which loads with the config without LoRA, and the assets of the checkpoint (norm stats).
Nothing at OUT is overwritten, OUT appears when it is whole, and every parameter is read back and compared.

--json gives: path, out, parameters, bytes (by dtype), assets, verified, lost (weight -> share of its delta).
"""

import argparse

from pi0_compat.checkpoints.lora import fold_checkpoint
from pi0_compat.cli import YES, writing
from pi0_compat.cli.config_options import add_config, read_config
from pi0_compat.cli.output import Output

EXAMPLES = """\
  pi0-compat fold checkpoints/my_run/29999 -o folded --config pi0_libero_low_mem_finetune
  pi0-compat fold checkpoints/my_run/29999 -o folded --dtype float32       alpha is recorded with the checkpoint
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("path", metavar="CHECKPOINT", help="a LoRA checkpoint of openpi's layout, local or a URL")
    writing.add_out(parser, "the folder to make")
    writing.add_dtype(parser)
    add_config(parser, "what it was trained with, where it does not record alpha itself")


def run(options: argparse.Namespace, output: Output) -> int:
    """Fold, and tell what was lost."""
    config = read_config(options)
    made = fold_checkpoint(options.path, options.out, config=config, dtype=options.dtype, progress=output.progress)
    writing.warn_of_losses(made.lost, output)
    text = [*writing.losses(made.lost), *writing.written(made.path, made.leaves, made.assets)]
    told = writing.document(options.path, options.out, made.leaves, made.assets) | {"lost": made.lost}
    output.give(told, "\n".join(text))
    return YES
