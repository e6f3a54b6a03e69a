"""LoRA on Gemma's einsums as flax modules; ``pi0_compat.model.sites`` says where adapters sit and what they compute.

Axes: B batch, T query length, F feed-forward dim, R rank, C what a weight stacks (q, k, v; gate, up).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from pi0_compat.model.sites import SITES, Site, adapter_shapes
from pi0_compat.model.specs import LoRASpec


def apply(
    site: Site,
    x: jax.Array,
    w: jax.Array,
    a: jax.Array | None = None,
    b: jax.Array | None = None,
    lora: LoRASpec | None = None,
) -> jax.Array:
    """Return ``base(x)`` plus the adapter's part.

    Args:
      site: where the weight sits; its einsums name the axes of ``x`` and ``w``.
      x: the input, of any float dtype.
      w: the weight, cast to the dtype of ``x``.
      a: ``lora_a``, or None without an adapter.
      b: ``lora_b``, or None without an adapter.
      lora: rank and alpha of the adapter.

    Returns:
      The output in the dtype of ``x``.
    """
    y = _product(site.base, x, w.astype(x.dtype))
    if lora is None or a is None or b is None:
        return y
    low = jnp.einsum(site.down, x, a.astype(x.dtype))
    return y + jnp.einsum(site.up, low, b.astype(x.dtype)) * lora.scale


def _product(equation: str, x: jax.Array, w: jax.Array) -> jax.Array:
    """Return ``einsum(equation, x, w)``; stacked weights (C) are multiplied one after the other.

    In a single product, XLA turns the operands around and copies all weights transposed, in every layer and step.
    """
    if "C" not in equation:
        return jnp.einsum(equation, x, w)
    one = equation.replace("C", "")
    return jnp.stack([jnp.einsum(one, x, part) for part in w])


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
