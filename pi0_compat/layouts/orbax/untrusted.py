"""Reject checkpoints that point out of their folder, or claim more than their files can hold, whoever made them.

Both are found in names and metadata, before an array is read or memory is allocated for one.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.item import StoredLeaf
from pi0_compat.params import leaf_of

# Zeros under zstd, zarr's best compressor, shrink 32768 times; an array that claims more has no data.
_BEST_COMPRESSION = 1 << 15
# Room for the metadata of a few small arrays, beside which their compressed values take nothing.
_ALWAYS_PLAUSIBLE = 1 << 24
# The fewest bytes that a piece of an array takes in a file.
_SMALLEST_PIECE = 1


def refuse_links_out(folder: Path) -> None:
    """Reject symbolic links below a folder that lead out of it. The folder itself may be a link.

    Raises:
      CheckpointError: there is such a link; the message has its name and target.
    """
    root = folder.resolve()
    for parent, folders, files in os.walk(root):
        for path in (Path(parent, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise CheckpointError(
                    f"{folder}: {path.relative_to(root)} is a symbolic link out of the folder, to {path.readlink()}; "
                    "if you trust it, copy the folder with its links followed (cp -rL) and pass the copy"
                )


def refuse_absurd_sizes(folder: Path, arrays: Mapping[str, StoredLeaf]) -> None:
    """Reject arrays whose claimed size, or number of pieces, the files of the folder cannot hold in any encoding.

    Reading them would take unbounded memory or time.

    Args:
      folder: the checkpoint.
      arrays: what orbax's metadata says about each, by path.

    Raises:
      CheckpointError: there is such an array.
    """
    stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    for path, array in arrays.items():
        leaf = leaf_of(array)
        pieces = _pieces(leaf.shape, array.chunk)
        if leaf.num_bytes > max(_ALWAYS_PLAUSIBLE, stored * _BEST_COMPRESSION) or pieces * _SMALLEST_PIECE > stored:
            raise CheckpointError(
                f"{folder}: damaged: {path} claims to be {leaf}, {leaf.num_bytes} bytes in {pieces} pieces, "
                f"and all files together have {stored} bytes; get the checkpoint again"
            )


def _pieces(shape: tuple[int, ...], chunk: tuple[int, ...] | None) -> int:
    """Return the number of chunks that an array is stored in."""
    return math.prod(-(-length // max(1, part)) for length, part in zip(shape, chunk or shape, strict=True))
