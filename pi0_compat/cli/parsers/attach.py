"""Attach LoRA adapters to a base checkpoint: one checkpoint with both, which loads with the LoRA config.

ADAPTERS is what `extract` writes, or the folder of a PEFT adapter, whose adapter_config.json has rank and alpha; the
modules that it leaves out get adapters of zeros. Adapters that do not fit the base are refused: other shapes, another
rank than is recorded with them, sites without an adapter. OUT becomes the folder of a step: params, and the assets
(norm stats) of the adapters or, if they have none, of the base. Nothing at
OUT is overwritten, OUT appears when it is complete, and every parameter is read back and compared.

--json prints: path, base, out, parameters, bytes (by dtype), assets, verified, scales (of each group of
adapters), scales_from (config, record, alpha, peft or none).
"""

import argparse

from pi0_compat.cli.parsers.options import add_alpha, add_checkpoint, add_config, add_out

EXAMPLES = """\
  pi0-compat attach my_adapters --to checkpoints/pi0_base -o lora_again
  pi0-compat attach my_peft_adapter --to checkpoints/pi0_base -o lora
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_checkpoint(parser, "ADAPTERS", "adapters alone, as extract or PEFT writes them, local or a URL")
    parser.add_argument("--to", dest="base", metavar="BASE", required=True, help="a checkpoint without adapters")
    add_out(parser, "the folder to make")
    add_config(parser, "the model the adapters were trained with, where they do not record alpha")
    add_alpha(parser)
