"""Write a folder in PyTorch's names: ``model.safetensors``, cut from stacked parameters in slabs, and its config."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pi0_compat.layouts.torch.rules import Rule
from pi0_compat.layouts.torch.safetensors_file import write_safetensors
from pi0_compat.layouts.torch.safetensors_folder import CONFIG_FILE, WEIGHTS_FILE
from pi0_compat.params import Leaf
from pi0_compat.storage.stream import Source, cut, slabs_ahead

# transformers reads no file without it.
_METADATA = {"format": "pt"}


def write_folder(
    folder: Path,
    source: Source,
    rules: Iterable[Rule],
    config: Mapping[str, Any],
    zeros: Mapping[str, Leaf] | None = None,
) -> None:
    """Write parameters as tensors; two runs write the same bytes.

    Args:
      folder: the folder to make.
      source: the parameters.
      rules: the tensors that each of them becomes.
      config: the content of ``config.json``.
      zeros: name -> shape and dtype of further tensors, which are written as zeros.
    """
    folder.mkdir()
    rules = list(rules)
    leaves = {name: leaf for rule in rules for name, leaf in _described(rule, source.leaves[rule.path])}
    leaves |= zeros or {}
    write_safetensors(folder / WEIGHTS_FILE, leaves, _parts(source, rules, zeros or {}), metadata=_METADATA)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")


def dtype_name(leaves: Iterable[Leaf]) -> str:
    """Return the name of the dtype of all leaves, or ``mixed``."""
    dtypes = {leaf.dtype.name for leaf in leaves}
    return dtypes.pop() if len(dtypes) == 1 else "mixed"


def _described(rule: Rule, leaf: Leaf) -> Iterator[tuple[str, Leaf]]:
    for name, _ in rule.pieces():
        yield name, Leaf(rule.tensor_shape(leaf.shape), leaf.dtype)


def _parts(source: Source, rules: Iterable[Rule], zeros: Mapping[str, Leaf]) -> Iterator[tuple[str, np.ndarray]]:
    for rule in rules:
        yield from rule.tensors(slabs_ahead(source, rule.path))
    for name, leaf in zeros.items():
        # A broadcast zero: nothing is allocated.
        for rows in cut(np.broadcast_to(leaf.dtype.type(0), leaf.shape)):
            yield name, rows
