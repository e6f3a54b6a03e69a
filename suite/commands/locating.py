"""From what a user types to a checkpoint whose layout is known: a path, a URL, a named config or a file with one."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suite.commands.output import Refusal
from suite.reference.configs import config_names, get_config
from suite.reference.download import fetch
from suite.reference.layouts.recognition import Recognised, recognise
from suite.reference.pi0_config import Pi0Config


@contextmanager
def located_metadata(path: str) -> Iterator[Recognised]:
    """The checkpoint at a path or URL, for what reads no array.

    Raises:
      CheckpointError: there is none, or none that is known.
    """
    yield recognise(fetch(path))


def located(path: str) -> Recognised:
    """The checkpoint at a path or URL, whole: what is remote is downloaded once into the cache.

    Raises:
      CheckpointError: there is none, or none that is known.
    """
    return recognise(fetch(path))


def shown(path: Path) -> str:
    """A path as a person would type it: relative to the working folder, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path != here and path.is_relative_to(here) else path)


def add_config(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Let the user name a model."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", metavar="NAME", help=f"{purpose}; one of {', '.join(config_names())}")
    group.add_argument("--config-file", metavar="FILE", type=Path, help="its sizes as JSON, as Pi0Config.to_json has it")


def read_config(options: argparse.Namespace) -> Pi0Config | None:
    """The model that the user named; None if they named none.

    Raises:
      Refusal: there is no such config, or the file is none.
    """
    if options.config is not None:
        try:
            return get_config(options.config).model
        except ValueError as error:
            raise Refusal(str(error)) from error
    if options.config_file is None:
        return None
    try:
        return Pi0Config.from_json(json.loads(options.config_file.read_text()))
    except (ValueError, TypeError, AttributeError) as error:
        raise Refusal(
            f"{options.config_file}: is no config ({error}); expected the sizes of a model as JSON, "
            "as `Pi0Config.to_json` has them"
        ) from error
