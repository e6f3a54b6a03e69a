"""Options that several commands take."""

import argparse
from pathlib import Path

DTYPES = ("float32", "bfloat16", "float16")


def add_checkpoint(parser: argparse.ArgumentParser, name: str, what: str) -> None:
    """Add the argument that leads to a checkpoint."""
    parser.add_argument("path", metavar=name, help=what)


def add_out(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option that names what to write."""
    parser.add_argument("-o", "--out", metavar="OUT", type=Path, required=True, help=what)


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add the option for the dtype of what is written."""
    parser.add_argument("--dtype", choices=DTYPES, help="dtype of all parameters; default: as stored")


def add_config(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the options that name a model: a config by its name, or a file of sizes."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", metavar="NAME", help=f"{purpose}: the name of a config, as openpi has it")
    group.add_argument(
        "--config-file", metavar="FILE", type=Path, help="the model's sizes as JSON, as Pi0Config.to_json writes them"
    )
