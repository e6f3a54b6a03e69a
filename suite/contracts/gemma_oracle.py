"""Gemma's forward pass in float64 numpy, from the parameters of one expert under openpi's names.

Written from the papers (arXiv:2403.08295, arXiv:2104.09864), one head at a time, so that it shares no shortcut with an
implementation.
"""

import numpy as np

from fixtures.params import Params
from fixtures.specs import ModelSpec

LLM = "PaliGemma/llm/"
WAVELENGTH = 10_000.0
RMS_EPSILON = 1e-6


def prompt_logits(spec: ModelSpec, params: Params, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the logits of a prompt whose real tokens all attend to each other.

    Args:
      tokens: int[b, tokens].
      mask: bool[b, tokens], false where padded; a padded token's logits mean nothing.

    Returns:
      float64[b, tokens, vocab_size].
    """
    weights = {path.removeprefix(LLM): np.asarray(x, np.float64) for path, x in params.items() if path.startswith(LLM)}
    return np.stack([_sample(spec, weights, row, real) for row, real in zip(tokens, mask, strict=True)])


def _sample(spec: ModelSpec, weights: Params, tokens: np.ndarray, real: np.ndarray) -> np.ndarray:
    table = weights["embedder/input_embedding"]
    x = table[tokens] * np.sqrt(spec["paligemma"]["width"])
    positions = np.cumsum(real) - 1
    for layer in range(spec["paligemma"]["depth"]):
        normed = _rms_norm(x, weights["layers/pre_attention_norm/scale"][layer])
        x = x + _attention(spec, weights, layer, normed, positions, real)
        normed = _rms_norm(x, weights["layers/pre_ffw_norm/scale"][layer])
        gate, up = weights["layers/mlp/gating_einsum"][layer]
        x = x + (_gelu(normed @ gate) * (normed @ up)) @ weights["layers/mlp/linear"][layer]
    return _rms_norm(x, weights["final_norm/scale"]) @ table.T


def _attention(
    spec: ModelSpec, weights: Params, layer: int, x: np.ndarray, positions: np.ndarray, real: np.ndarray
) -> np.ndarray:
    heads, kv_heads = spec["paligemma"]["num_heads"], spec["paligemma"]["num_kv_heads"]
    if heads == kv_heads:
        queries, keys, values = weights["layers/attn/qkv_einsum/w"][layer]
    else:
        queries = weights["layers/attn/q_einsum/w"][layer]
        keys, values = weights["layers/attn/kv_einsum/w"][layer]
    total = np.zeros_like(x)
    for head in range(heads):
        # Consecutive query heads share a key/value head.
        shared = head // (heads // kv_heads)
        query, key = _rotate(x @ queries[head], positions), _rotate(x @ keys[shared], positions)
        scores = query @ key.T / np.sqrt(spec["paligemma"]["head_dim"])
        scores[:, ~real] = -np.inf
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        total += shares @ (x @ values[shared]) @ weights["layers/attn/attn_vec_einsum/w"][layer, head]
    return total


def _rotate(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Turn each pair (n, n + half) by its angle at the token's position."""
    half = x.shape[1] // 2
    angles = positions[:, None] * WAVELENGTH ** (-np.arange(half) / half)
    first, second = x[:, :half], x[:, half:]
    return np.concatenate(
        [first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)], axis=1
    )


def _rms_norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + RMS_EPSILON) * (1 + scale)


def _gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
