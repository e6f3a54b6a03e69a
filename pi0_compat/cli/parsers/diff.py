"""Compare two checkpoints parameter by parameter, in structure and values, across layouts.

Different layouts are compared under openpi's names. The distance is |A - B| / max(|A|, |B|) with norms over the whole
array: 0 for equal values, 2 for opposite ones. Arrays are read a slab at a time. Norm stats that both sides have are
compared as well, in units of the spread. Exit status 1: they differ.

--json prints: left and right (path, layout), differ, same (a count), structure (path, left, right: shape and dtype, or
null), values (path, relative, largest, differing, size, left, right; infinite is null), unused (paths), problems (of
left and right: what inspect misses), norm_stats (name, relative, words).
"""

import argparse

from pi0_compat.cli.parsers.options import add_config

EXAMPLES = """\
  pi0-compat diff checkpoints/pi0_base/params checkpoints/my_run/29999
  pi0-compat diff checkpoints/pi0_base/params converted_pytorch
  pi0-compat diff before after --tolerance 1e-3               bfloat16 rounding is no difference
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    for name in ("left", "right"):
        parser.add_argument(name, metavar=name.upper(), help="a checkpoint in any layout, local or a URL")
    add_config(parser, "the model of both, where neither layout shows its sizes")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="X",
        help="treat arrays at most this far apart as equal, dtypes too; default: 0, bit for bit",
    )
    parser.add_argument("--all", action="store_true", help="list every array that differs, not only the first 20")
