"""Extract the LoRA adapters of a checkpoint into a small checkpoint, which `attach` puts onto a base.

With --base, extract the base instead. OUT becomes the folder of a step: params, and the assets of the checkpoint (norm
stats). Rank and alpha are recorded with the adapters if the checkpoint records them or a config is named. Nothing at
OUT is overwritten, OUT appears when it is complete, and every parameter is read back and compared.

--json prints: path, out, parameters, bytes (by dtype), assets, verified, scales (of each group of adapters),
scales_from (config, record, alpha or none).
"""

import argparse

from pi0_compat.cli.parsers.options import add_alpha, add_checkpoint, add_config, add_out

EXAMPLES = """\
  pi0-compat extract checkpoints/my_run/29999 -o my_adapters --config pi0_libero_low_mem_finetune
  pi0-compat extract checkpoints/my_run/29999 -o my_base --base
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_checkpoint(parser, "CHECKPOINT", "a LoRA checkpoint in openpi's layout, local or a URL")
    add_out(parser, "the folder to make")
    parser.add_argument("--base", action="store_true", help="extract the base instead of the adapters")
    add_config(parser, "the model it was trained with, whose alpha is recorded with the adapters")
    add_alpha(parser)
