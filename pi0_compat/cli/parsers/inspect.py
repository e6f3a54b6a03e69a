"""Show what a checkpoint is, from names, shapes, and small files; no array is read.

For the folder of a run, the latest step is inspected. "complete" means all files, all parameters of the family, all
layers, and both halves of every adapter. Norm stats beside it, openpi's and lerobot's, are read: how many dimensions,
which normalization they serve, and with a ! what cannot be right. Of a file that is no part of a pi0 it says which
model it is, if the names prove one, and what it is nearest to. With --write-config, its model is written to a file,
which --config-file of other commands takes; alpha that is not recorded comes from --lora-alpha. Exit status 1: the
checkpoint is not complete, or no part of a pi0.

--json prints: path, layout, family, other (the model that an unknown one is by its names), sizes, variants, values,
bytes (by dtype), ranks (by expert and weight), lora (as recorded, or null), written_by, training, digests, norm_stats
(each file: name, file, sizes, serves, modes, problem, flaws: array, words, is_wrong), missing, strays (arrays without a
place), why_not (it is no part of a pi0), leftovers, arrays (name -> shape, dtype).
"""

import argparse
from pathlib import Path

from pi0_compat.cli.parsers.options import add_alpha, add_checkpoint

EXAMPLES = """\
  pi0-compat inspect checkpoints/pi0_base/params
  pi0-compat inspect checkpoints/my_run                       the latest step of a run
  pi0-compat inspect gs://openpi-assets/checkpoints/pi0_base/params
  pi0-compat inspect checkpoints/my_run --write-config my_model.json
  pi0-compat inspect paligemma-3b-pt-224 --arrays             Hugging Face's folder, with every tensor
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_checkpoint(parser, "PATH", "a checkpoint in any layout: a file or folder, local or a URL")
    parser.add_argument("--arrays", action="store_true", help="list every array with its shape and dtype")
    parser.add_argument(
        "--write-config", metavar="FILE", type=Path, help="write the model's sizes as JSON too, for --config-file"
    )
    add_alpha(parser)
