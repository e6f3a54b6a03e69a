"""Options that several commands take."""

import argparse
from pathlib import Path

DTYPES = ("float32", "bfloat16", "float16")


def add_checkpoint(parser: argparse.ArgumentParser, name: str, what: str) -> None:
    """Add the argument that leads to a checkpoint."""
    parser.add_argument("path", metavar=name, help=what)


def add_out(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option that names what to write."""
    parser.add_argument("-o", "--out", metavar="OUT", type=_place, required=True, help=what)


def _place(text: str) -> str | Path:
    """Return a path, or a URL as it is: ``Path`` would make one slash of its two."""
    return text if "://" in text else Path(text)


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add the option for the dtype of what is written."""
    parser.add_argument("--dtype", choices=DTYPES, help="dtype of all parameters; default: as stored")


def add_alpha(parser: argparse.ArgumentParser) -> None:
    """Add the options that give alpha in place of a config."""
    parser.add_argument(
        "--lora-alpha",
        metavar="[GROUP=]ALPHA",
        action="append",
        help="alpha of all adapters, or of a group: paligemma.attn, paligemma.ffn, action_expert.attn, "
        "action_expert.ffn; may be repeated; ranks are in the checkpoint",
    )
    parser.add_argument(
        "--rslora", action="store_true", help="with --lora-alpha: the scale is alpha / sqrt(rank), not alpha / rank"
    )


def add_config(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the options that name a model: a config by its name, or a file of sizes."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", metavar="NAME", help=f"{purpose}: the name of a config, as openpi has it")
    group.add_argument(
        "--config-file",
        metavar="FILE",
        type=Path,
        help="the model's sizes as JSON; `inspect --write-config` writes some",
    )
