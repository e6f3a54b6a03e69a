"""Turn what a user types into a checkpoint (from a path or URL) or a model (from a config's name or file)."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pi0_compat.cli.output import Refusal
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.detect import detect
from pi0_compat.layouts.layout import Detected
from pi0_compat.layouts.remote import outline
from pi0_compat.model.named import named_model, named_models
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.storage.download import is_url


class Located(NamedTuple):
    """A detected checkpoint.

    Attributes:
      name: what to print for it: its URL, or its path, relative to the working folder if it is below.
    """

    checkpoint: Detected
    name: str


@contextmanager
def located_metadata(path: str) -> Iterator[Located]:
    """Yield the checkpoint at a path or URL for reading its metadata; a remote one is not downloaded.

    Raises:
      CheckpointError: the path does not lead to a checkpoint of a known layout.
    """
    with outline(path) as local:
        try:
            yield _named(path, detect(local))
        except (CheckpointError, LoadError) as error:
            # The user knows the URL, not the place of its outline.
            raise type(error)(
                str(error).replace(str(local), path.rstrip("/")) if is_url(path) else str(error)
            ) from error


def located(path: str) -> Located:
    """Return the checkpoint at a path or URL, all of it: a remote one is downloaded once into the cache.

    Raises:
      CheckpointError: the path does not lead to a checkpoint of a known layout, or the download failed.
    """
    return _named(path, detect(path))


def _named(path: str, checkpoint: Detected) -> Located:
    if is_url(path):
        # For a run, name the step that was chosen.
        below = checkpoint.path.relative_to(checkpoint.root).as_posix()
        return Located(checkpoint, path.rstrip("/") if below == "." else f"{path.rstrip('/')}/{below}")
    here = Path.cwd()
    is_below = checkpoint.path != here and checkpoint.path.is_relative_to(here)
    return Located(checkpoint, checkpoint.path.relative_to(here).as_posix() if is_below else str(checkpoint.path))


def add_config(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the options that name a model."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", metavar="NAME", help=f"{purpose}; one of {', '.join(named_models())}")
    group.add_argument(
        "--config-file", metavar="FILE", type=Path, help="its sizes as JSON, as Pi0Config.to_json has it"
    )


def read_config(options: argparse.Namespace) -> Pi0Spec | None:
    """Return the model that the options name; None if they name none.

    Raises:
      Refusal: the config is unknown, or the file does not describe a model.
    """
    if options.config is not None:
        try:
            return named_model(options.config)
        except ValueError as error:
            raise Refusal(str(error)) from error
    if options.config_file is None:
        return None
    try:
        return Pi0Spec.from_json(json.loads(options.config_file.read_text()))
    except (ValueError, TypeError, AttributeError) as error:
        raise Refusal(
            f"{options.config_file}: is no config ({error}); expected the sizes of a model as JSON, "
            "as `Pi0Config.to_json` has them"
        ) from error
