"""LoRA on Gemma's einsums: where adapters sit, what they compute, and what they fold into.

Axes: B batch, T query length, N query heads, K key/value heads, H head dim, D width, F feed-forward dim, R rank, C what
a weight stacks (q, k, v; gate, up).

An adapter adds ``scale * up(down(x))`` to ``base(x)``, ``scale`` being alpha / rank or alpha / sqrt(rank). Two laws
of openpi that a stored checkpoint depends on (openpi ``models/lora.py:67-86``): ``lora_b`` has the shape that its
weight has with rank in place of the contracted axis, and ``attn_vec_einsum`` sums over heads in both products, so
head n's delta is ``A[n] @ sum_m B[m]`` and not ``A[n] @ B[n]``. Where openpi is wrong we are not: alpha applies to
the feed-forward too (``lora.py:144``), and a fresh ``lora_b`` is zero (``lora.py:20``), so a fresh adapter leaves the
model as it was.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from pi0_compat.model.specs import LoRASpec


@dataclasses.dataclass(frozen=True)
class Site:
    """A weight that may carry an adapter, as einsums: its own product, the two low-rank ones, the folded delta."""

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


def apply(
    site: Site,
    x: jax.Array,
    w: jax.Array,
    a: jax.Array | None = None,
    b: jax.Array | None = None,
    lora: LoRASpec | None = None,
) -> jax.Array:
    """``base(x)`` plus the adapter's part, in the dtype of ``x`` (the weights are cast to it)."""
    y = _product(site.base, x, w.astype(x.dtype))
    if lora is None or a is None or b is None:
        return y
    low = jnp.einsum(site.down, x, a.astype(x.dtype))
    return y + jnp.einsum(site.up, low, b.astype(x.dtype)) * lora.scale


def _product(equation: str, x: jax.Array, w: jax.Array) -> jax.Array:
    """``einsum(equation, x, w)``; of weights that are stacked (C), one product after the other.

    Taken together, XLA turns the product around and copies all of the weights transposed, in every layer and step.
    """
    if "C" not in equation:
        return jnp.einsum(equation, x, w)
    one = equation.replace("C", "")
    return jnp.stack([jnp.einsum(one, x, part) for part in w])


def adapter_shapes(w_shape: tuple[int, ...], rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of lora_a and lora_b for a weight, stacked or not: rank replaces its last, or its last but one, axis."""
    *lead, rows, columns = w_shape
    return (*lead, rows, rank), (*lead, rank, columns)


def delta(site: Site, a: jax.Array, b: jax.Array, lora: LoRASpec) -> jax.Array:
    """What the adapter adds to its weight, layers stacked in front or not, computed in float32."""
    a, b = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    return jnp.einsum(site.delta, a, b, precision="highest") * lora.scale


class Einsum(nnx.Module):
    """An attention einsum: parameters ``w`` and, with an adapter, ``lora_a`` and ``lora_b``."""

    def __init__(self, site: str, shape: tuple[int, ...], *, lora: LoRASpec | None) -> None:
        self.site = SITES[site]
        self.lora = lora
        self.w = nnx.Param(jnp.zeros(shape))
        if lora:
            shape_a, shape_b = adapter_shapes(shape, lora.rank)
            self.lora_a, self.lora_b = nnx.LoRAParam(jnp.zeros(shape_a)), nnx.LoRAParam(jnp.zeros(shape_b))

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.lora is None:
            return apply(self.site, x, self.w[...])
        return apply(self.site, x, self.w[...], self.lora_a[...], self.lora_b[...], self.lora)


class FeedForward(nnx.Module):
    """Gemma's gated feed-forward: ``linear(gelu(gate(x)) * up(x))``, gelu by tanh."""

    def __init__(self, width: int, mlp_dim: int, *, lora: LoRASpec | None) -> None:
        self.lora = lora
        self.gating_einsum = nnx.Param(jnp.zeros((2, width, mlp_dim)))
        self.linear = nnx.Param(jnp.zeros((mlp_dim, width)))
        if lora:
            self._add_adapter("gating_einsum", lora)
            self._add_adapter("linear", lora)

    def __call__(self, x: jax.Array) -> jax.Array:
        gate, up = self._apply("gating_einsum", x)
        return self._apply("linear", nnx.gelu(gate) * up)

    def _add_adapter(self, name: str, lora: LoRASpec) -> None:
        shape_a, shape_b = adapter_shapes(getattr(self, name).shape, lora.rank)
        setattr(self, f"{name}_lora_a", nnx.LoRAParam(jnp.zeros(shape_a)))
        setattr(self, f"{name}_lora_b", nnx.LoRAParam(jnp.zeros(shape_b)))

    def _apply(self, name: str, x: jax.Array) -> jax.Array:
        w = getattr(self, name)[...]
        if self.lora is None:
            return apply(SITES[name], x, w)
        a, b = (getattr(self, f"{name}_lora_{ab}")[...] for ab in "ab")
        return apply(SITES[name], x, w, a, b, self.lora)
