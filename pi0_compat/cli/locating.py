"""From what a user types to a checkpoint whose layout is known: a path, a URL, a named config or a file with one."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pi0_compat.cli.output import Refusal
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.detect import recognise
from pi0_compat.layouts.layout import Recognised
from pi0_compat.layouts.remote import outline
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.named import named_model, named_models
from pi0_compat.storage.download import fetch, is_url


class Located(NamedTuple):
    """A checkpoint, and how a person would name it: its URL, or its path from the working folder if it is below."""

    found: Recognised
    name: str


@contextmanager
def located_metadata(path: str) -> Iterator[Located]:
    """The checkpoint at a path or URL, for what reads no array; a remote one is not downloaded.

    Raises:
      CheckpointError: there is none, or none that is known.
    """
    with outline(path) as local:
        try:
            yield _located(path, local)
        except (CheckpointError, LoadError) as error:
            # The user knows the URL, and not where its outline lies.
            raise type(error)(
                str(error).replace(str(local), path.rstrip("/")) if is_url(path) else str(error)
            ) from error


def located(path: str) -> Located:
    """The checkpoint at a path or URL, whole: what is remote is downloaded once into the cache.

    Raises:
      CheckpointError: there is none, or none that is known.
    """
    return _located(path, fetch(path))


def _located(path: str, local: Path) -> Located:
    found = recognise(local)
    if is_url(path):
        # Of a run, the step that was chosen.
        below = found.path.relative_to(local).as_posix()
        return Located(found, path.rstrip("/") if below == "." else f"{path.rstrip('/')}/{below}")
    here = Path.cwd()
    near = found.path != here and found.path.is_relative_to(here)
    return Located(found, found.path.relative_to(here).as_posix() if near else str(found.path))


def add_config(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Let the user name a model."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", metavar="NAME", help=f"{purpose}; one of {', '.join(named_models())}")
    group.add_argument(
        "--config-file", metavar="FILE", type=Path, help="its sizes as JSON, as Pi0Config.to_json has it"
    )


def read_config(options: argparse.Namespace) -> Pi0Config | None:
    """The model that the user named; None if they named none.

    Raises:
      Refusal: there is no such config, or the file is none.
    """
    if options.config is not None:
        try:
            return named_model(options.config)
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
