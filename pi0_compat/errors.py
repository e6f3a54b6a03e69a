"""Errors about checkpoints. A message names the file, the parameter, what was expected and found, and a fix."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


class CheckpointError(ValueError):
    """A file or folder that is not, or no longer, the checkpoint it should be. Nothing was loaded or changed."""


class LoadError(ValueError):
    """A readable checkpoint that does not fit the model. Nothing was loaded."""


@contextmanager
def prefix_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise a ``ValueError`` of the body as a ``LoadError`` whose message begins with the path of the checkpoint."""
    try:
        yield
    except ValueError as error:
        raise LoadError(f"{os.fspath(path)}: {error}") from error
