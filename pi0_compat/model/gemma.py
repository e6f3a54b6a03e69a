"""The Gemma of pi0, of one or two experts: each has its own weights, all tokens attend together.

Axes: B batch, T query length, S key/value length, N query heads, K key/value heads, G query heads per key/value head,
H head dim, D width, C what a fused projection stacks (q, k, v).

Written from Gemma (arXiv:2403.08295), PaliGemma (arXiv:2407.07726) and pi0 (arXiv:2410.24164); parameter names and
numerics follow openpi ``models/gemma.py`` at 15a9616, with ``float32_queries`` those of ``models/gemma_fast.py``.
Expert 0's names carry no suffix, so PaliGemma checkpoints fit; expert 1's end in ``_1``. All layers live in one module
whose parameters have a leading layer axis, run by ``jax.lax.scan``.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from pi0_compat.model.lora import Einsum, FeedForward
from pi0_compat.model.shapes import expert_name
from pi0_compat.model.specs import GemmaSpec, Remat

# Tokens, or a conditioning vector, of each expert; None where an expert does not run.
PerExpert = Sequence[jax.Array | None]
# Rotated keys and values of every layer, both [layers, B, S, K, H] in the compute dtype.
KVCache = tuple[jax.Array, jax.Array]

RMS_EPSILON = 1e-6
# What the backward pass finds of a layer besides its input.
_KEPT = {"layers": None, "cheap": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}
# Added where attention is forbidden; the number of Gemma's own code, not -inf, so that a fully masked row stays finite.
MASKED_LOGIT = -2.3819763e38


def stack_layers(layer: nnx.Module, depth: int) -> nnx.Module:
    """Return ``depth`` such modules as one whose parameters, all zero, have a leading layer axis."""
    graphdef, state = nnx.split(layer)
    return nnx.merge(graphdef, jax.tree.map(lambda x: jnp.zeros((depth, *x.shape), x.dtype), state))


def scan_layers(
    layers: nnx.Module, step: Callable[..., Any], carry: object, xs: object = None, *, remat: Remat
) -> tuple[Any, Any]:
    """Scan ``carry, y = step(layer, carry, x)`` over stacked layers; ``remat`` as in ``Pi0Spec``."""
    graphdef, state = nnx.split(layers)

    @functools.partial(jax.checkpoint, policy=_KEPT[remat])
    def body(carry: object, inputs: tuple[Any, Any]) -> tuple[Any, Any]:
        layer_state, x = inputs
        return step(nnx.merge(graphdef, layer_state), carry, x)

    return jax.lax.scan(body, carry, (state, xs))


class RMSNorm(nnx.Module):
    """Root-mean-square norm scaled by ``1 + scale``."""

    def __init__(self, width: int) -> None:
        self.scale = nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array, cond: None = None) -> tuple[jax.Array, None]:
        """Return the normed ``x`` [B, T, D] in its own dtype, and no gate."""
        return (_normalize(x) * (1 + self.scale[...])).astype(x.dtype), None


class Dense(nnx.Module):
    """The parameters of a linear layer, kernel [inputs, outputs] and bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.kernel = nnx.Param(jnp.zeros((inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))


class AdaRMSNorm(nnx.Module):
    """pi05's norm: scale, shift and residual gate come from a projection of the flow-matching time (adaRMS)."""

    def __init__(self, width: int) -> None:
        self.Dense_0 = Dense(width, 3 * width)

    def __call__(self, x: jax.Array, cond: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the normed ``x`` [B, T, D] and the gate [B, 1, D], from ``cond`` [B, D]."""
        kernel, bias = (p[...].astype(x.dtype) for p in (self.Dense_0.kernel, self.Dense_0.bias))
        modulation = cond.astype(x.dtype) @ kernel + bias
        scale, shift, gate = jnp.split(modulation[:, None, :], 3, axis=-1)
        return (_normalize(x) * (1 + scale) + shift).astype(x.dtype), gate


class Embedder(nnx.Module):
    """Token embeddings, scaled by sqrt(width)."""

    def __init__(self, vocab_size: int, width: int) -> None:
        self.input_embedding = nnx.Param(jnp.zeros((vocab_size, width)))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """int[B, T] -> [B, T, D]."""
        table = self.input_embedding[...]
        return table[tokens] * jnp.sqrt(table.shape[-1]).astype(table.dtype)

    def decode(self, x: jax.Array) -> jax.Array:
        """[B, T, D] -> a logit for each token, [B, T, vocabulary], in the wider dtype of ``x`` and the table."""
        return jnp.dot(x, self.input_embedding[...].T)


class Attention(nnx.Module):
    """Attention of all experts' tokens to each other, with grouped key/value heads."""

    def __init__(self, experts: Sequence[GemmaSpec], *, float32_queries: bool = False) -> None:
        self.experts, self.float32_queries = tuple(experts), float32_queries
        for i, spec in enumerate(experts):
            self._create_projections(i, spec)

    def __call__(
        self, xs: PerExpert, positions: jax.Array, mask: jax.Array, cache: KVCache | None
    ) -> tuple[list[jax.Array | None], KVCache]:
        """``xs`` [B, T_i, D_i], positions [B, T], mask [B, T, S] -> as ``xs``, and their keys, values [B, T, K, H]."""
        spec = self.experts[0]
        projected = [self._project(i, x) for i, x in enumerate(xs) if x is not None]
        q, k, v = (jnp.concatenate(part, axis=1) for part in zip(*projected, strict=True))
        if self.float32_queries:
            q = q.astype(jnp.float32)
        q = rotate(q, positions) * spec.head_dim**-0.5
        k = rotate(k, positions)
        new = k, v
        if cache is not None:
            k, v = (jnp.concatenate([old, new], axis=1) for old, new in zip(cache, (k, v), strict=True))
        encoded = attend(q, k, v, mask)
        lengths = [0 if x is None else x.shape[1] for x in xs]
        return [self._project_out(i, part) for i, part in enumerate(_split_tokens(encoded, lengths))], new

    def _create_projections(self, i: int, spec: GemmaSpec) -> None:
        heads, kv_heads, width, head_dim = spec.num_heads, spec.num_kv_heads, spec.width, spec.head_dim

        def add(name: str, shape: tuple[int, ...]) -> None:
            setattr(self, expert_name(name, i), Einsum(name, shape, lora=spec.lora_attn))

        if kv_heads == heads:
            add("qkv_einsum", (3, heads, width, head_dim))
        else:
            add("q_einsum", (heads, width, head_dim))
            add("kv_einsum", (2, kv_heads, width, head_dim))
        add("attn_vec_einsum", (heads, head_dim, width))

    def _project(self, i: int, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        if self.experts[i].num_kv_heads == self.experts[i].num_heads:
            q, k, v = getattr(self, expert_name("qkv_einsum", i))(x)
        else:
            q = getattr(self, expert_name("q_einsum", i))(x)
            k, v = getattr(self, expert_name("kv_einsum", i))(x)
        return q, k, v

    def _project_out(self, i: int, encoded: jax.Array | None) -> jax.Array | None:
        return None if encoded is None else getattr(self, expert_name("attn_vec_einsum", i))(encoded)


class Block(nnx.Module):
    """One transformer layer of all experts."""

    def __init__(
        self, experts: Sequence[GemmaSpec], adarms: Sequence[bool], *, dropout: float, float32_queries: bool = False
    ) -> None:
        self.dropout = dropout
        self.attn = Attention(experts, float32_queries=float32_queries)
        for i, (spec, ada) in enumerate(zip(experts, adarms, strict=True)):
            for name in ("pre_attention_norm", "pre_ffw_norm"):
                setattr(self, expert_name(name, i), make_norm(spec.width, ada))
            setattr(self, expert_name("mlp", i), FeedForward(spec.width, spec.mlp_dim, lora=spec.lora_ffn))

    def __call__(
        self,
        xs: PerExpert,
        positions: jax.Array,
        mask: jax.Array,
        conds: PerExpert,
        cache: KVCache | None,
        dropout_key: jax.Array | None = None,
    ) -> tuple[list[jax.Array | None], KVCache]:
        """Run one layer; return the new ``xs``, and their keys and values. Without a key nothing is dropped."""
        keys = (None, None) if dropout_key is None else jax.random.split(dropout_key)
        normed, gates = apply_norms(self, "pre_attention_norm", xs, conds)
        attended, cache = self.attn(normed, positions, mask, cache)
        attended = drop(attended, self.dropout, keys[0])
        xs = [_residual(*parts) for parts in zip(xs, attended, gates, strict=True)]
        normed, gates = apply_norms(self, "pre_ffw_norm", xs, conds)
        fed = [None if x is None else getattr(self, expert_name("mlp", i))(x) for i, x in enumerate(normed)]
        fed = drop(fed, self.dropout, keys[1])
        return [_residual(*parts) for parts in zip(xs, fed, gates, strict=True)], cache


class Gemma(nnx.Module):
    """Embeddings, stacked layers and final norms of PaliGemma's language model and, in pi0, the action expert."""

    def __init__(
        self,
        experts: Sequence[GemmaSpec],
        *,
        vocab_size: int,
        adarms: Sequence[bool],
        dtype: str,
        dropout: float,
        remat: Remat,
        float32_queries: bool = False,
    ) -> None:
        self.dtype, self.remat = dtype, remat
        self.depth = experts[0].depth
        self.embedder = Embedder(vocab_size, experts[0].width)
        block = Block(experts, adarms, dropout=dropout, float32_queries=float32_queries)
        self.layers = stack_layers(block, self.depth)
        for i, (spec, ada) in enumerate(zip(experts, adarms, strict=True)):
            setattr(self, expert_name("final_norm", i), make_norm(spec.width, ada))

    def embed(self, tokens: jax.Array) -> jax.Array:
        """int[B, T] -> [B, T, D] in the compute dtype."""
        return self.embedder(tokens).astype(self.dtype)

    def __call__(
        self,
        xs: PerExpert,
        *,
        positions: jax.Array,
        mask: jax.Array,
        conds: PerExpert,
        cache: KVCache | None = None,
        dropout_key: jax.Array | None = None,
    ) -> tuple[list[jax.Array | None], KVCache]:
        """Run the experts that have tokens.

        Args:
          xs: tokens [B, T_i, D_i] of each expert, or None.
          positions: int[B, T] of all tokens of all experts, T being the sum of the T_i.
          mask: bool[B, T, S], true where a token may attend; S counts cached tokens first.
          conds: adaRMS conditioning [B, D_i] of each expert, or None.
          cache: keys and values of tokens seen before, of all layers.
          dropout_key: decides what is dropped; None outside of training.

        Returns:
          The normed outputs in the compute dtype, and the keys and values of these tokens [layers, B, T, K, H].
        """
        xs = [None if x is None else x.astype(self.dtype) for x in xs]
        keys = None if dropout_key is None else jax.random.split(dropout_key, self.depth)
        xs, new = scan_layers(
            self.layers,
            lambda block, xs, inputs: block(xs, positions, mask, conds, *inputs),
            xs,
            (cache, keys),
            remat=self.remat,
        )
        return apply_norms(self, "final_norm", xs, conds)[0], new


def make_norm(width: int, adaptive: bool) -> RMSNorm | AdaRMSNorm:
    """Return the norm of an expert: adaptive for pi05's action expert."""
    return AdaRMSNorm(width) if adaptive else RMSNorm(width)


def apply_norms(
    module: nnx.Module, name: str, xs: PerExpert, conds: PerExpert
) -> tuple[list[jax.Array | None], list[jax.Array | None]]:
    """Apply the experts' norms of that name; return tokens and residual gates, None for an expert that does not run."""
    pairs: list[tuple[jax.Array | None, jax.Array | None]] = [(None, None)] * len(xs)
    for i, (x, cond) in enumerate(zip(xs, conds, strict=True)):
        if x is not None:
            pairs[i] = getattr(module, expert_name(name, i))(x, cond)
    return [x for x, _ in pairs], [gate for _, gate in pairs]


def drop(xs: PerExpert, rate: float, key: jax.Array | None) -> list[jax.Array | None]:
    """Set each value to zero with probability ``rate`` and scale the others up; without a key, change nothing."""
    if key is None:
        return list(xs)
    keys = jax.random.split(key, len(xs))
    kept = [None if x is None else jax.random.bernoulli(k, 1 - rate, x.shape) for x, k in zip(xs, keys, strict=True)]
    return [None if x is None else jnp.where(keep, x / (1 - rate), 0) for x, keep in zip(xs, kept, strict=True)]


def rotate(x: jax.Array, positions: jax.Array, *, max_wavelength: float = 10_000) -> jax.Array:
    """Rotate [B, T, N, H] by position (RoPE, arXiv:2104.09864), in float32, halves of a head as pairs."""
    head_dim = x.shape[-1]
    # In this order: i * (2 / H) and i / (H / 2) round differently, and positions multiply the difference.
    wavelengths = max_wavelength ** ((2.0 / head_dim) * jnp.arange(head_dim // 2, dtype=jnp.float32))
    radians = positions[..., None, None] / wavelengths
    sin, cos = jnp.sin(radians), jnp.cos(radians)
    left, right = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1).astype(x.dtype)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    """Grouped-query attention: q [B, T, N, H], k, v [B, S, K, H], mask [B, T, S] -> [B, T, N, H]; float32 softmax."""
    batch, length, heads, head_dim = q.shape
    grouped = q.reshape(batch, length, k.shape[2], -1, head_dim)
    logits = jnp.einsum("BTKGH,BSKH->BKGTS", grouped, k, preferred_element_type=jnp.float32)
    logits = jnp.where(mask[:, None, None, :, :], logits, MASKED_LOGIT)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("BKGTS,BSKH->BTKGH", weights, v).reshape(batch, length, heads, head_dim)


def _normalize(x: jax.Array) -> jax.Array:
    """Return ``x`` over its root mean square, in float32."""
    mean_square = jnp.mean(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
    return x * jnp.reciprocal(jnp.sqrt(mean_square + RMS_EPSILON))


def _residual(x: jax.Array | None, y: jax.Array | None, gate: jax.Array | None) -> jax.Array | None:
    if x is None or y is None:
        return None
    return x + y if gate is None else x + y * gate


def _split_tokens(encoded: jax.Array, lengths: Sequence[int]) -> list[jax.Array | None]:
    """Cut [B, T, ...] into the experts' parts; None where an expert has no tokens."""
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
    return [encoded[:, end - n : end] if n else None for n, end in zip(lengths, ends, strict=True)]
