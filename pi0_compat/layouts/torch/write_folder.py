"""Write a folder in PyTorch's names: ``model.safetensors``, cut from stacked parameters in slabs, and its config.

A folder of shards is as the Hub has it: ``model-00001-of-00003.safetensors`` and so on, and the index.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pi0_compat.layouts.torch.rules import Rule
from pi0_compat.layouts.torch.safetensors_file import write_safetensors
from pi0_compat.layouts.torch.safetensors_folder import CONFIG_FILE, INDEX, WEIGHTS_FILE
from pi0_compat.params import Leaf, num_bytes
from pi0_compat.storage.stream import Source, cut, slabs_ahead

# transformers reads no file without it.
_METADATA = {"format": "pt"}


def write_folder(
    folder: Path,
    source: Source,
    rules: Iterable[Rule],
    config: Mapping[str, Any],
    zeros: Mapping[str, Leaf] | None = None,
    max_shard_bytes: int | None = None,
) -> None:
    """Write parameters as tensors; two runs write the same bytes.

    Args:
      folder: the folder to make.
      source: the parameters.
      rules: the tensors that each of them becomes.
      config: the content of ``config.json``.
      zeros: name -> shape and dtype of further tensors, which are written as zeros.
      max_shard_bytes: the most that the tensors of a file may have, unless a single one has more; None for one file.
    """
    folder.mkdir()
    rules = list(rules)
    leaves = {name: leaf for rule in rules for name, leaf in _described(rule, source.leaves[rule.path])}
    leaves |= zeros or {}
    shards = _shards(leaves, max_shard_bytes)
    files = {name: file for file, members in shards.items() for name in members}
    # Tensors come in the order of the shards.
    parts = itertools.groupby(_parts(source, rules, zeros or {}), key=lambda part: files[part[0]])
    for file, own in parts:
        write_safetensors(folder / file, shards[file], own, metadata=_METADATA)
    if len(shards) > 1:
        index = {"metadata": {"total_size": num_bytes(leaves)}, "weight_map": dict(sorted(files.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")


def _shards(leaves: Mapping[str, Leaf], limit: int | None) -> dict[str, dict[str, Leaf]]:
    """Return the tensors of each file, in their order, each file as full as the limit allows."""
    shards: list[dict[str, Leaf]] = [{}]
    for name, leaf in leaves.items():
        if limit is not None and shards[-1] and num_bytes(shards[-1]) + leaf.num_bytes > limit:
            shards.append({})
        shards[-1][name] = leaf
    if len(shards) == 1:
        return {WEIGHTS_FILE: shards[0]}
    stem, suffix = WEIGHTS_FILE.split(".")
    return {f"{stem}-{n:05}-of-{len(shards):05}.{suffix}": shard for n, shard in enumerate(shards, start=1)}


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
