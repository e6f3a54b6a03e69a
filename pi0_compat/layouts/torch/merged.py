"""Merge a PEFT adapter into the tensors of its base while they are read, on whichever modules it is.

What a PEFT training leaves may be on modules where openpi has no adapters: lerobot's default is on projections, and on
some of an expert's modules. Merged, it is a model like any other. A weight becomes ``W + scale B A``, computed in
float64 and rounded once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pi0_compat.errors import LoadError
from pi0_compat.layouts.layout import ADAPTER_WEIGHTS
from pi0_compat.layouts.torch.not_weights import require_weights
from pi0_compat.layouts.torch.openpi_names import plain_name
from pi0_compat.layouts.torch.peft_names import describe_others, names_of
from pi0_compat.layouts.torch.peft_settings import Settings, read_settings
from pi0_compat.layouts.torch.safetensors_file import FLOATS, SafetensorsFile, open_safetensors
from pi0_compat.params import Leaf
from pi0_compat.storage.stream import Source, cut


class _Pair(NamedTuple):
    """The adapter of a module: names of its matrices, and the factor of their product."""

    a: str
    b: str
    scale: float


class MergedTensors(Source):
    """The tensors of a base with an adapter in them, under the base's names.

    Attributes:
      path: the base's file.
      leaves: name -> shape and dtype of every tensor.
      lost: name of a merged weight -> the share of its delta that rounding took; complete once all are read.
    """

    def __init__(self, base: Source, folder: Path, dtype: np.dtype | None = None) -> None:
        self.path = base.path
        self._base = base
        self.lost: dict[str, float] = {}
        settings = read_settings(folder)
        with open_safetensors(folder / ADAPTER_WEIGHTS) as file:
            self._adapter = file
        self._pairs = _pairs(self._adapter, settings, base)
        self.leaves = {
            name: Leaf(leaf.shape, dtype or leaf.dtype) if name in self._pairs else leaf
            for name, leaf in base.leaves.items()
        }

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """Return a tensor, merged if there is an adapter on it."""
        if path not in self._pairs:
            return self._base.read(path, dtype)
        weight = self._base.read(path).astype(np.float64)
        delta = self._delta(self._pairs[path])
        merged = (weight + delta).astype(dtype or self.leaves[path].dtype)
        size = float(np.linalg.norm(delta))
        self.lost[path] = float(np.linalg.norm(merged.astype(np.float64) - weight - delta)) / size if size else 0.0
        return merged

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a tensor in parts."""
        return cut(self.read(path)) if path in self._pairs else self._base.slabs(path)

    def _delta(self, pair: _Pair) -> np.ndarray:
        a, b = (self._adapter.read(name).astype(np.float64) for name in (pair.a, pair.b))
        return np.asarray(pair.scale * (b @ a))


def _pairs(adapter: SafetensorsFile, settings: Settings, base: Source) -> dict[str, _Pair]:
    """Return the adapter of every weight of the base that has one; reject what cannot be merged."""
    require_weights(adapter.path, adapter.leaves, {})
    names = names_of(adapter.path, adapter.leaves)
    if names.others:
        raise LoadError(
            f"{adapter.path}: {len(names.others)} tensors are no matrices of an adapter, for example "
            f"{min(names.others)}{describe_others(names.others)}"
        )
    weights = {plain_name(name): name for name in base.leaves}
    pairs = {}
    for module, raw in names.modules.items():
        weight = weights.get(plain_name(f"{raw}.weight"))
        if weight is None:
            raise LoadError(
                f"{adapter.path}: has an adapter of {raw}, which {base.path} does not have; pass its own base"
            )
        matrices = {half: names.matrices.get((module, half)) for half in "AB"}
        pairs[weight] = _pair(adapter, settings, raw, matrices, base.leaves[weight])
    if not pairs:
        raise LoadError(f"{adapter.path}: has no adapters")
    return pairs


def _pair(
    adapter: SafetensorsFile, settings: Settings, module: str, matrices: dict[str, str | None], weight: Leaf
) -> _Pair:
    """Return the adapter of a module; require both halves, of floats, that fit the weight."""
    a, b = matrices["A"], matrices["B"]
    if a is None or b is None:
        raise LoadError(f"{adapter.path}: the adapter of {module} has no lora_{'A' if a is None else 'B'}")
    one, other = adapter.leaves[a], adapter.leaves[b]
    rank = one.shape[0] if one.shape else 0
    fits = (one.shape, other.shape) == ((rank, *weight.shape[1:]), (*weight.shape[:1], rank)) and len(weight.shape) == 2
    if not fits or not {one.dtype, other.dtype, weight.dtype} <= set(FLOATS):
        raise LoadError(f"{adapter.path}: the adapter of {module} is {one} and {other}, its weight is {weight}")
    settings.require_rank(module, a, rank)
    return _Pair(a, b, settings.scale(module, rank))
