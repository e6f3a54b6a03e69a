"""Judge the checkpoint at a path: the verdict on its names and shapes, and on the files that should hold its arrays."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.gemma_flax import plain_names
from pi0_compat.layouts.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Detected, Layout
from pi0_compat.layouts.orbax.completeness import what_is_missing
from pi0_compat.layouts.orbax.item import item_metadata
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.layouts.paligemma_npz import open_npz
from pi0_compat.layouts.torch.not_weights import require_weights
from pi0_compat.layouts.torch.peft_settings import read_settings
from pi0_compat.layouts.torch.safetensors_folder import open_tensors, recorded_beside, tensors_of
from pi0_compat.layouts.torch.tied import tied_apart
from pi0_compat.layouts.verdict import Verdict, judge
from pi0_compat.layouts.wholes import stored_name, whole_like
from pi0_compat.params import Leaf, join, leaf_of

_ORBAX = (Layout.OPENPI, Layout.TRAIN_STATE, Layout.GEMMA_FLAX, Layout.UNKNOWN)
_TORCH = (Layout.OPENPI_PYTORCH, Layout.LEROBOT, Layout.HUGGING_FACE)


class Judged(NamedTuple):
    """A checkpoint with the verdict on it.

    Attributes:
      leaves: shape and dtype of every array, by the names of its layout.
      verdict: on names, shapes and files.
    """

    leaves: dict[str, Leaf]
    verdict: Verdict


def judge_checkpoint(
    checkpoint: Detected, leaves: Mapping[str, Leaf] | None = None, missing: tuple[str, ...] | None = None
) -> Judged:
    """Return the verdict on a checkpoint; no array is read but two tables of PyTorch's that should be one.

    Args:
      checkpoint: what ``detect`` returned.
      leaves: its arrays, if they have been read.
      missing: what ``what_is_missing`` returned, if it has been called.

    Raises:
      CheckpointError: its metadata cannot be read.
    """
    # Files first: a damaged table of arrays is named by them.
    if missing is None:
        missing = tuple(what_is_missing(checkpoint.path)) if checkpoint.layout in _ORBAX else ()
    found = dict(leaves_in(checkpoint) if leaves is None else leaves)
    verdict = judge(checkpoint.layout, found, _recorded(checkpoint))
    problems = () if verdict.reason else (*missing, *_no_weights(checkpoint), *verdict.problems, *_apart(checkpoint))
    return Judged(found, verdict._replace(problems=problems))


def leaves_in(checkpoint: Detected) -> dict[str, Leaf]:
    """Return shape and dtype of every array of a checkpoint, by the names of its layout.

    Raises:
      CheckpointError: its metadata cannot be read.
    """
    match checkpoint.layout:
        case Layout.OPENPI:
            return read_metadata(checkpoint.path).leaves
        case Layout.PALIGEMMA_NPZ:
            with open_npz(checkpoint.path) as npz:
                return npz.leaves
        case Layout.PEFT:
            return tensors_of(checkpoint.path / ADAPTER_WEIGHTS)
        case Layout.OPENPI_PYTORCH | Layout.LEROBOT | Layout.HUGGING_FACE:
            return tensors_of(checkpoint.path)
    arrays = _orbax_arrays(checkpoint.path)
    return plain_names(arrays) if checkpoint.layout is Layout.GEMMA_FLAX else arrays


def _orbax_arrays(folder: Path) -> dict[str, Leaf]:
    """Return the arrays of any orbax tree, those in lists too: an optimizer's state is a list."""
    try:
        return dict(_arrays_below(item_metadata(folder).tree, ()))
    except Exception as error:  # orbax raises all kinds
        raise CheckpointError(f"{folder}: the checkpoint is damaged or incomplete ({error})") from error


def _arrays_below(node: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, Leaf]]:
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield from _arrays_below(child, (*keys, str(key)))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _arrays_below(child, (*keys, str(index)))
    elif getattr(node, "shape", None) is not None:
        yield join(keys), leaf_of(node)


def _recorded(checkpoint: Detected) -> dict[str, Any]:
    return recorded_beside(checkpoint.path) if checkpoint.layout in _TORCH else {}


def _no_weights(checkpoint: Detected) -> Iterator[str]:
    """Yield why tensors are not the weights: quantized ones, placeholders, adapters of another kind than LoRA's."""
    path = checkpoint.path
    try:
        if checkpoint.layout is Layout.PEFT and (path / ADAPTER_CONFIG).is_file():
            read_settings(path)
        elif checkpoint.layout is Layout.PEFT:
            yield f"{ADAPTER_CONFIG}: expected beside {ADAPTER_WEIGHTS}, with rank and alpha; found nothing"
        elif checkpoint.layout in _TORCH:
            require_weights(path, tensors_of(path), _recorded(checkpoint))
    except (CheckpointError, LoadError) as error:
        yield str(error).removeprefix(f"{path}: ").removeprefix(f"{path}/")


def _apart(checkpoint: Detected) -> Iterator[str]:
    """Yield what only files tell: tied tables that differ."""
    if checkpoint.layout not in _TORCH:
        return
    with open_tensors(checkpoint.path) as tensors:
        names = {stored_name(checkpoint.layout, name): name for name in tensors.leaves}
        whole = whole_like(checkpoint.layout, names)
        # lerobot does not tie the two, and its pi0 and pi0.5 never read the second.
        pairs = () if checkpoint.layout is Layout.LEROBOT and whole.what != "pi0_fast" else whole.either
        for pair in pairs:
            if all(name in names for name in pair) and (words := tied_apart(tensors, *(names[n] for n in pair))):
                yield words
