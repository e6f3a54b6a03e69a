"""Check whether a checkpoint loads, for training and for inference, and say how to fix what does not.

Only metadata are read; differences come in groups. --values also reads the arrays, a slab at a time, and reports what
no trained model has: NaN, infinities, constant arrays, arrays that are still as they were initialized. Without a
config, all named configs are tried. No shape shows the action horizon, the prompt length, or (unless recorded) alpha,
so these are not checked. Norm stats beside it are checked: which asset id the config takes, sizes, quantiles where the
family needs them, and with a ! what cannot be right. Exit status 1: it does not load for what was asked, or values or
the norm stats of the config are wrong.

--json prints: path, layout, why_not (it is no part of a pi0), problems (what is not whole), configs (name -> training
and inference: loads, reason, loaded, fresh, dropped; differences: kind, part, paths, example; sizes; details; apart:
how many parameters differ), fixes, norm_stats (each file: name, file, sizes, serves, modes, problem, flaws, is_taken),
and with --values: values (path, finding, evidence, expected).
"""

import argparse

from pi0_compat.cli.parsers.options import add_checkpoint, add_config

EXAMPLES = """\
  pi0-compat check checkpoints/pi0_base/params --config pi0_libero
  pi0-compat check checkpoints/pi0_base/params                which of the named configs fit
  pi0-compat check checkpoints/my_run --config-file sizes.json --for inference
  pi0-compat check checkpoints/my_run --values
"""
PURPOSES = ("training", "inference")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_checkpoint(parser, "PATH", "a checkpoint in any layout: a file or folder, local or a URL")
    add_config(parser, "the model it should load into")
    parser.add_argument("--for", dest="purpose", choices=PURPOSES, help="check this alone; default: both")
    parser.add_argument("--values", action="store_true", help="read the arrays too")
