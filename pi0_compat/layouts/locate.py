"""Locate a checkpoint by the path or URL that a user gives, and name it as the user would."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.detect import detect
from pi0_compat.layouts.layout import Detected
from pi0_compat.layouts.remote import outline
from pi0_compat.storage.download import is_url


class Located(NamedTuple):
    """A detected checkpoint.

    Attributes:
      name: what to print for it: its URL, or its path, relative to the working folder if it is below.
    """

    checkpoint: Detected
    name: str


@contextmanager
def located_metadata(path: str | os.PathLike[str]) -> Iterator[Located]:
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
                str(error).replace(str(local), os.fspath(path).rstrip("/")) if is_url(path) else str(error)
            ) from error


def located(path: str | os.PathLike[str]) -> Located:
    """Return the checkpoint at a path or URL, all of it: a remote one is downloaded once into the cache.

    Raises:
      CheckpointError: the path does not lead to a checkpoint of a known layout, or the download failed.
    """
    return _named(path, detect(path))


def _named(path: str | os.PathLike[str], checkpoint: Detected) -> Located:
    if is_url(path):
        url = os.fspath(path).rstrip("/")
        # For a run, name the step that was chosen.
        below = checkpoint.path.relative_to(checkpoint.root).as_posix()
        return Located(checkpoint, url if below == "." else f"{url}/{below}")
    here = Path.cwd()
    is_below = checkpoint.path != here and checkpoint.path.is_relative_to(here)
    return Located(checkpoint, checkpoint.path.relative_to(here).as_posix() if is_below else str(checkpoint.path))
