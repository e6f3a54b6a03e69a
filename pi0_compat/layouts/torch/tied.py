"""Compare the two names of a tied table: PyTorch's files may hold both, and only one table can be meant."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.torch.safetensors_file import open_safetensors, same_bits
from pi0_compat.params import Leaf
from pi0_compat.storage.stream import Source

_TABLES = ("embed_tokens.weight", "lm_head.weight")
# Where two remote tables are compared, and how many bytes at each place.
PLACES, _PLACE_BYTES = 16, 4096

# transformers adds <image> and one more token to the vocabulary, rounds it up to this, and fills the new rows with
# noise (convert_paligemma_weights_to_hf.py): 257152 become 257216.
ADDED_TOKENS, VOCABULARY_MULTIPLE = 2, 64


def padded(rows: int) -> int:
    """Return the rows of transformers' table for a vocabulary of this many tokens."""
    return -(-(rows + ADDED_TOKENS) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def tied_apart(tensors: Source, table: str, copy: str) -> str | None:
    """Return why two names of one table are not the same table; None if they are.

    Args:
      tensors: the open file, or all shards.
      table: the name of the token table.
      copy: the name of the output layer that is tied to it.
    """
    one, other = tensors.leaves[table], tensors.leaves[copy]
    rows = sorted(leaf.shape[0] if leaf.shape else 0 for leaf in (one, other))
    comparable = one.dtype == other.dtype and one.shape[1:] == other.shape[1:]
    if comparable and rows[1] in (rows[0], padded(rows[0])):
        first, second = (tensors.read(name)[: rows[0]] for name in (table, copy))
        if same_bits(first, second):
            return None
    return (
        f"{table} and {copy} are one table in the model and differ in the file; pi0 looks tokens up in the first and "
        "has no use for the second: only one can be meant, remove the other"
    )


class Place(NamedTuple):
    """A range of bytes of a file."""

    file: Path
    begin: int
    end: int


def places(files: Iterable[Path]) -> Iterator[Place]:
    """Yield where two names of one table can be compared without all of their values.

    A training that unties the tables changes every row of one of them, so a few places tell.

    Args:
      files: safetensors files of one checkpoint, of which the headers can be read.
    """
    alike: dict[tuple[object, ...], list[Place]] = defaultdict(list)
    for file in files:
        for leaf, place in _tables(file):
            alike[(leaf.dtype, *leaf.shape[1:])].append(place)
    for tables in alike.values():
        if len(tables) < 2:
            continue
        last = max(0, min(table.end - table.begin for table in tables) - _PLACE_BYTES)
        for number in range(PLACES):
            offset = last * number // (PLACES - 1)
            for file, begin, end in tables:
                yield Place(file, begin + offset, min(begin + offset + _PLACE_BYTES, end))


def _tables(file: Path) -> Iterator[tuple[Leaf, Place]]:
    try:
        with open_safetensors(file) as tensors:
            for name, leaf in tensors.leaves.items():
                if name.endswith(_TABLES) and len(leaf.shape) == 2:
                    yield leaf, Place(file, *tensors.extent(name))
    except CheckpointError:
        return  # the reader of the checkpoint says so
