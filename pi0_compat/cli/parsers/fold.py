"""Fold LoRA adapters into the weights they adapt: a base model that computes what the LoRA model computes.

Deltas are summed in float64 and added in float32, and the sum is rounded once, to --dtype or the stored dtype; the
share of each adapter that rounding took is printed. OUT becomes the folder of a step: params, which loads with the
config without LoRA, and the assets of the checkpoint (norm stats). Nothing at OUT is overwritten, OUT appears when it
is complete, and every parameter is read back and compared.

--json prints: path, out, parameters, bytes (by dtype), assets, verified, lost (weight -> share of its delta),
scales (of each group of adapters), scales_from (config, record or alpha).
"""

import argparse

from pi0_compat.cli.parsers.options import add_alpha, add_checkpoint, add_config, add_dtype, add_out

EXAMPLES = """\
  pi0-compat fold checkpoints/my_run/29999 -o folded --config pi0_libero_low_mem_finetune
  pi0-compat fold checkpoints/my_run/29999 -o folded --dtype float32       alpha is recorded with the checkpoint
  pi0-compat fold checkpoints/my_run/29999 -o folded --lora-alpha paligemma.attn=16 --lora-alpha paligemma.ffn=32
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_checkpoint(parser, "CHECKPOINT", "a LoRA checkpoint in openpi's layout, local or a URL")
    add_out(parser, "the folder to make")
    add_dtype(parser)
    add_config(parser, "the model it was trained with, where the checkpoint does not record alpha")
    add_alpha(parser)
