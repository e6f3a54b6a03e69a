"""Record a digest of every parameter with a checkpoint, and compare it when the parameter is loaded.

orbax and openpi return whatever decodes: 200 zeroed bytes become weights (docs/bugs.md#c18). The digests are in orbax's
own metadata, where openpi ignores them. They are computed from the arrays to save and compared with the arrays as
stored, before any cast, which covers writing, the disk and every copy in between. A digest costs about a second per
gigabyte and core; parameters are hashed on all cores, without a copy. Checkpoints from elsewhere have none, and the
load report says so.
"""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pi0_compat.errors import CheckpointError
from pi0_compat.params import Leaf, leaf_of
from pi0_compat.text import shorten

ALGORITHM = "sha256"
NOT_RECORDED = "integrity was not checked: the checkpoint records no digests"
NOT_ASKED = "integrity was not checked: it was not asked for"


class Digest:
    """The sha256 of the dtype, shape and values (C order, little endian) of an array that is passed in part by part.

    Raises:
      TypeError: the array holds Python objects, which have no bytes of their own.
    """

    def __init__(self, leaf: Leaf) -> None:
        header = f"{leaf.dtype.name} {list(leaf.shape)}\n"
        self._hashed = hashlib.new(ALGORITHM, header.encode(), usedforsecurity=False)

    def update(self, part: np.ndarray) -> None:
        """Add the next values, of any shape."""
        hashed, little = self._hashed, part.astype(part.dtype.newbyteorder("<"), copy=False)
        hashed.update(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)

    def hexdigest(self) -> str:
        """Return the digest of the values so far, in hex."""
        return self._hashed.hexdigest()


def digest(array: Any) -> str:
    """Return the ``Digest`` of an array, in hex."""
    array = np.asarray(array)
    digest = Digest(leaf_of(array))
    digest.update(array)
    return digest.hexdigest()


def digests_of(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the digest of every parameter that this process holds completely, by path."""
    whole = {path: array for path, array in params.items() if getattr(array, "is_fully_addressable", True)}
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(whole, threads.map(digest, whole.values()), strict=True))


def record(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record to save beside the parameters, as plain data."""
    return as_record(digests_of(params))


def as_record(digests: Mapping[str, str]) -> dict[str, Any]:
    """Return the record of digests by path, as plain data."""
    return {"algorithm": ALGORITHM, "leaves": dict(digests)}


def read_record(folder: Path, metadata: Mapping[str, Any], leaves: Mapping[str, Leaf]) -> dict[str, str]:
    """Return the digests that a checkpoint records, by path; none if it is not ours or the algorithm is unknown.

    Raises:
      CheckpointError: the record is damaged, or a parameter that it lists is not in the checkpoint.
    """
    recorded = metadata.get("digests")
    if not isinstance(recorded, Mapping) or recorded.get("algorithm") != ALGORITHM:
        return {}
    if not isinstance(digests := recorded.get("leaves"), Mapping):
        raise CheckpointError(f"{folder}: damaged: the record of digests is {digests!r}; get the checkpoint again")
    if lost := sorted(digests.keys() - leaves.keys()):
        lines = "\n".join(shorten([f"  - {path}" for path in lost]))
        raise CheckpointError(f"{folder}: damaged: parameters that were saved are not there; get it again\n{lines}")
    return dict(digests)


def verify(folder: Path, found: Mapping[str, str], digests: Mapping[str, str]) -> None:
    """Compare digests of arrays, as they are stored, with the recorded ones; skip a path without a recorded one.

    Raises:
      CheckpointError: a digest differs; the message names every such parameter.
    """
    wrong = [path for path in sorted(found.keys() & digests.keys()) if found[path] != digests[path]]
    lines = [f"  ~ {path}: expected {ALGORITHM} {digests[path]}, found {found[path]}" for path in wrong]
    if lines:
        raise CheckpointError(
            f"{folder}: damaged: these parameters are not what was saved; get the checkpoint again, "
            "or load what is there with verify=False\n" + "\n".join(shorten(lines))
        )


def notes(digests: Mapping[str, str], read: list[str], *, verified: bool) -> tuple[str, ...]:
    """Return a load report's notes on integrity; none if the digest of every parameter read was compared."""
    if not verified:
        return (NOT_ASKED,)
    if not digests:
        return (NOT_RECORDED,)
    unguarded = [path for path in read if path not in digests]
    return (f"integrity was not checked of {len(unguarded)} parameters without a digest",) if unguarded else ()
