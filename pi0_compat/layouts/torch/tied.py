"""Compare the two names of a tied table: PyTorch's files may hold both, and only one table can be meant."""

from pi0_compat.layouts.torch.safetensors_file import same_bits
from pi0_compat.storage.stream import Source

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
