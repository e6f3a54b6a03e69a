"""Take the LoRA adapters out of a checkpoint: a small checkpoint with them alone, which `attach` puts onto a base.

With --base it is the other way round: the base alone. OUT becomes the folder of a step: params, and the assets of the
checkpoint (norm stats). Rank and alpha go along, if the checkpoint records them or a config is named. Nothing at OUT is
overwritten, OUT appears when it is whole, and every parameter is read back and compared.

--json gives: path, out, parameters, bytes (by dtype), assets, verified.
"""

import argparse

from pi0_compat.checkpoints.lora import extract_checkpoint
from pi0_compat.cli import YES, writing
from pi0_compat.cli.config_options import add_config, read_config
from pi0_compat.cli.output import Output

EXAMPLES = """\
  pi0-compat extract checkpoints/my_run/29999 -o my_adapters --config pi0_libero_low_mem_finetune
  pi0-compat extract checkpoints/my_run/29999 -o my_base --base
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("path", metavar="CHECKPOINT", help="a LoRA checkpoint of openpi's layout, local or a URL")
    writing.add_out(parser, "the folder to make")
    parser.add_argument("--base", action="store_true", help="the base instead of the adapters")
    add_config(parser, "what it was trained with, so that alpha is recorded with the adapters")


def run(options: argparse.Namespace, output: Output) -> int:
    """Extract, and tell what there is."""
    config = read_config(options)
    made = extract_checkpoint(options.path, options.out, config=config, base=options.base, progress=output.progress)
    output.give(
        writing.document(options.path, options.out, made.leaves, made.assets),
        "\n".join(writing.written(made.path, made.leaves, made.assets)),
    )
    return YES
