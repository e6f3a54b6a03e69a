"""Which weights may carry a LoRA adapter, and what an adapter computes there, as einsums; no jax is needed.

Axes: B batch, T query length, N query heads, K key/value heads, H head dim, D width, F feed-forward dim, R rank, C what
a weight stacks (q, k, v; gate, up), M query heads that are summed over.

An adapter adds ``scale * up(down(x))`` to ``base(x)``, ``scale`` being alpha / rank or alpha / sqrt(rank). Two laws
of openpi that a stored checkpoint depends on (openpi ``models/lora.py:67-86`` at 15a9616): ``lora_b`` has the shape of
its weight with the rank in place of the contracted axis, and ``attn_vec_einsum`` sums over heads in both products, so
head n's delta is ``A[n] @ sum_m B[m]`` and not ``A[n] @ B[n]``. Where openpi is wrong, this differs: alpha applies to
the feed-forward too (``lora.py:144``), and a fresh ``lora_b`` is zero (``lora.py:20``), so that a fresh adapter leaves
the model as it was.
"""

import dataclasses
import itertools
import re
from typing import Any, Literal

import numpy as np

from pi0_compat.model.specs import LoRASpec

# Multiplications at a time: OpenBLAS gives more of them to all cores, which wait for each other ten times as long.
_TILE = 1 << 18
_TILE_ROWS = 16


@dataclasses.dataclass(frozen=True)
class Site:
    """A weight that may carry an adapter.

    Attributes:
      group: attention or feed-forward; each has a rank and alpha of its own.
      base: the einsum of the weight's own product.
      down: the einsum with ``lora_a``.
      up: the einsum with ``lora_b``.
      delta: the einsum of ``lora_a`` and ``lora_b`` that folding adds to the weight, before scaling.
    """

    group: Literal["attn", "ffn"]
    base: str
    down: str
    up: str
    delta: str


SITES = {
    "q_einsum": Site("attn", "BTD,NDH->BTNH", "BTD,NDR->BTNR", "BTNR,NRH->BTNH", "...NDR,...NRH->...NDH"),
    "kv_einsum": Site(
        "attn",
        "BTD,CKDH->CBTKH",
        "BTD,CKDR->CBTKR",
        "CBTKR,CKRH->CBTKH",
        "...CKDR,...CKRH->...CKDH",
    ),
    "qkv_einsum": Site(
        "attn",
        "BTD,CNDH->CBTNH",
        "BTD,CNDR->CBTNR",
        "CBTNR,CNRH->CBTNH",
        "...CNDR,...CNRH->...CNDH",
    ),
    "attn_vec_einsum": Site("attn", "BTNH,NHD->BTD", "BTNH,NHR->BTR", "BTR,NRD->BTD", "...NHR,...MRD->...NHD"),
    "gating_einsum": Site("ffn", "BTD,CDF->CBTF", "BTD,CDR->CBTR", "CBTR,CRF->CBTF", "...CDR,...CRF->...CDF"),
    "linear": Site("ffn", "BTF,FD->BTD", "BTF,FR->BTR", "BTR,RD->BTD", "...FR,...RD->...FD"),
}


def adapter_shapes(w_shape: tuple[int, ...], rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of ``lora_a`` and ``lora_b`` for a weight, stacked or not.

    Args:
      w_shape: the shape of the weight, [..., rows, columns].
      rank: the rank of the adapter.

    Returns:
      [..., rows, rank] and [..., rank, columns].
    """
    *lead, rows, columns = w_shape
    return (*lead, rows, rank), (*lead, rank, columns)


def delta(site: Site, a: Any, b: Any, lora: LoRASpec) -> np.ndarray:
    """Return what an adapter adds to its weight, computed on the host and rounded to float32 once.

    Products are summed in float64: in float32 the last bit would depend on the order in which a machine's BLAS sums,
    and two machines would fold one checkpoint into different bytes.

    Args:
      site: where the adapter sits.
      a: ``lora_a`` [..., rows, rank], a numpy or jax array of any float dtype; layers may be stacked in front.
      b: ``lora_b`` [..., rank, columns].
      lora: its rank and alpha.

    Returns:
      float32 [..., rows, columns].
    """
    a, b = factors(site, a, b, lora)
    return product(a, b)


def factors(site: Site, a: Any, b: Any, lora: LoRASpec) -> tuple[np.ndarray, np.ndarray]:
    """Return the two matrices of every head and layer whose product ``delta`` is, float64 and with equal first axes.

    Args:
      site: where the adapter sits.
      a: ``lora_a`` [..., rows, rank].
      b: ``lora_b`` [..., rank, columns].
      lora: its rank and alpha.

    Returns:
      [..., rows, rank] and [..., rank, columns]: b is scaled, and summed over heads where the site sums.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64) * lora.scale
    left, right, out = re.split(",|->", site.delta.replace("...", ""))
    summed = tuple(axis - len(right) for axis, name in enumerate(right) if name not in left + out)
    b = b.sum(axis=summed, keepdims=True) if summed else b
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return np.broadcast_to(a, (*lead, *a.shape[-2:])), np.broadcast_to(b, (*lead, *b.shape[-2:]))


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the products of float64 matrices [..., rows, rank] and [..., rank, columns], rounded to float32.

    A tile at a time, so that little is ever held in float64 and each core works on its own.
    """
    result = np.empty((*a.shape[:-1], b.shape[-1]), np.float32)
    rows, columns = result.shape[-2:]
    width = max(1, _TILE // (_TILE_ROWS * max(1, a.shape[-1])))
    tile = np.empty((_TILE_ROWS, width))
    for lead in np.ndindex(result.shape[:-2]):
        for top, left in itertools.product(range(0, rows, _TILE_ROWS), range(0, columns, width)):
            place = result[lead][top : top + _TILE_ROWS, left : left + width]
            found = tile[: place.shape[0], : place.shape[1]]
            np.matmul(a[lead][top : top + _TILE_ROWS], b[lead][:, left : left + width], out=found)
            place[...] = found
    return result
