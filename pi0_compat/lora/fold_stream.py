"""Fold adapters into weights a slab at a time, in bounded memory."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from pi0_compat.errors import prefix_errors
from pi0_compat.lora.fold import add, missing_of
from pi0_compat.lora.sites import Adapter, ExpertLoRAs, adapters_in, require_rank, require_whole_adapters, spec_among
from pi0_compat.model.sites import factors, product
from pi0_compat.params import Leaf
from pi0_compat.paths import is_adapter
from pi0_compat.storage.stream import Origin, Source, boxes, in_slabs, whole


@dataclasses.dataclass
class _Norms:
    """Sums of squares over slabs.

    Attributes:
      whole: of the delta.
      missing: of what the folded weight lacks of it.
    """

    whole: float = 0.0
    missing: float = 0.0

    @property
    def share(self) -> float:
        return (self.missing / self.whole) ** 0.5 if self.whole else 0.0


class FoldedStream(Source):
    """The base model that computes what base and adapters compute: ``fold``, a slab at a time.

    Attributes:
      lost: path of a weight -> the share of its delta that its dtype could not hold, once it was read.
    """

    def __init__(self, source: Source, experts: ExpertLoRAs, dtype: Any = None) -> None:
        """Match adapters with their weights, from names and shapes.

        Args:
          source: base and adapters.
          experts: rank and alpha of the adapters of both experts.
          dtype: dtype of the folded weights; without it each keeps the dtype it is stored in.

        Raises:
          LoadError: half an adapter, one of another rank, or one of which there is no alpha.
        """
        self.path, self._source, self._experts = source.path, source, experts
        self.lost: dict[str, float] = {}
        self._adapters = _whole_adapters(source, experts)
        self.leaves = {path: leaf for path, leaf in source.leaves.items() if not is_adapter(path)}
        for path in self._adapters if dtype is not None else ():
            self.leaves[path] = Leaf(self.leaves[path].shape, np.dtype(dtype))

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a weight with its delta added, summed in float32 and rounded once; any other parameter unchanged."""
        if path not in self._adapters:
            return self._source.slabs(path)
        return in_slabs(self.leaves[path], self.blocks(path))

    def blocks(self, path: str) -> Iterator[np.ndarray]:
        """Yield the values of ``slabs`` in blocks."""
        return self._folded(path) if path in self._adapters else self._source.blocks(path)

    def origin(self, path: str) -> Origin | None:
        """Return the origin of a parameter without an adapter."""
        return None if path in self._adapters else self._source.origin(path)

    def _folded(self, path: str) -> Iterator[np.ndarray]:
        adapter, dtype, shape = self._adapters[path], self.leaves[path].dtype, self.leaves[path].shape
        spec = spec_among(self._experts, adapter)
        assert spec
        a, b = (whole(self._source.slabs(matrix)) for matrix in (adapter.a, adapter.b))
        a, b = factors(adapter.site, a, b, spec)
        norms = _Norms()
        for (lead, rows), w in zip(boxes(shape), self._source.blocks(path), strict=True):
            delta = product(a[lead][rows], b[lead] if len(lead) == len(shape) - 2 else b[lead][rows]).reshape(-1)
            folded = add(w, delta, dtype)
            norms.whole += _square(delta)
            norms.missing += _square(missing_of(delta, w, folded))
            yield folded
        self.lost[path] = norms.share


def _whole_adapters(source: Source, experts: ExpertLoRAs) -> dict[str, Adapter]:
    """Return the adapters by the paths of their weights, or raise what keeps them from being folded."""
    with prefix_errors(source.path):
        require_whole_adapters(source.leaves)
        found = {adapter.weight: adapter for adapter in adapters_in(filter(is_adapter, source.leaves))}
        for adapter in found.values():
            spec = spec_among(experts, adapter)
            if spec is None:
                raise ValueError(
                    f"the alpha of {adapter.a} is not known: the checkpoint does not record it, and no config with an "
                    "adapter there was passed; pass the config that it was trained with (--config)"
                )
            require_rank(adapter, source.leaves[adapter.a].shape[-1], spec)
    return found


def _square(x: np.ndarray) -> float:
    flat = x.reshape(-1)
    return float(np.dot(flat, flat))
