"""Put LoRA adapters onto a base checkpoint: one checkpoint with both, which loads with the LoRA config.

The adapters are what `extract` made. They have to be of this base: other shapes, another rank than is recorded with
them, and sites without an adapter are refused. OUT becomes the folder of a step: params, and the assets (norm stats) of
the adapters, or if they have none, of the base. Nothing at OUT is overwritten, OUT appears when it is whole, and every
parameter is read back and compared.

--json gives: path, base, out, parameters, bytes (by dtype), assets, verified.
"""

import argparse

from pi0_compat.checkpoints.lora import attach_checkpoint
from pi0_compat.cli import YES, writing
from pi0_compat.cli.config_options import add_config, read_config
from pi0_compat.cli.output import Output

EXAMPLES = """\
  pi0-compat attach my_adapters --to checkpoints/pi0_base -o lora_again
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("path", metavar="ADAPTERS", help="adapters alone, as extract makes them, local or a URL")
    parser.add_argument("--to", dest="base", metavar="BASE", required=True, help="a checkpoint without adapters")
    writing.add_out(parser, "the folder to make")
    add_config(parser, "what the adapters were trained with, where they do not record alpha")


def run(options: argparse.Namespace, output: Output) -> int:
    """Attach, and tell what there is."""
    config = read_config(options)
    made = attach_checkpoint(options.path, options.base, options.out, config=config, progress=output.progress)
    output.give(
        writing.document(options.path, options.out, made.leaves, made.assets) | {"base": options.base},
        "\n".join(writing.written(made.path, made.leaves, made.assets)),
    )
    return YES
