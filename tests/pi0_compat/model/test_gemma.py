"""Gemma's parts in isolation: attention against a loop, rotations, norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_compat.model import gemma

B, T, S, K, G, H, D = 2, 3, 5, 2, 3, 4, 6
# Softmax and sums of about twenty terms of order one in float32 (eps 1.2e-7).
ATOL = 1e-5


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_attention_by_loops(seed: int) -> None:
    """Query head n attends with key/value head n // G, over allowed tokens only, by a softmax."""
    q, k, v = normal(seed, B, T, K * G, H), normal(seed + 1, B, S, K, H), normal(seed + 2, B, S, K, H)
    mask = np.random.default_rng(seed).random((B, T, S)) < 0.6
    mask[:, :, 0] = True
    attended = np.asarray(gemma.attend(*map(jnp.asarray, (q, k, v, mask))))
    for b, t, n in np.ndindex(B, T, K * G):
        allowed = mask[b, t]
        weights = np.exp(k[b, allowed, n // G] @ q[b, t, n])
        expected = weights @ v[b, allowed, n // G] / weights.sum()
        np.testing.assert_allclose(attended[b, t, n], expected, atol=10 * ATOL)


def test_a_fully_masked_token_stays_finite() -> None:
    """A token that may attend to nothing, such as padding, gets finite numbers."""
    q, kv = jnp.asarray(normal(0, B, T, K * G, H)), jnp.asarray(normal(1, B, S, K, H))
    assert np.isfinite(gemma.attend(q, kv, kv, jnp.zeros((B, T, S), bool))).all()


def test_position_zero_is_not_rotated() -> None:
    """At position 0 the rotation does nothing."""
    x = normal(0, B, T, K, H)
    np.testing.assert_array_equal(gemma.rotate(jnp.asarray(x), jnp.zeros((B, T), int)), x)


def test_rotations_keep_lengths() -> None:
    """A rotated vector keeps its length."""
    x = normal(0, B, T, K, H)
    rotated = np.asarray(gemma.rotate(jnp.asarray(x), jnp.arange(T)[None].repeat(B, 0) * 7))
    np.testing.assert_allclose((rotated**2).sum(-1), (x**2).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("shift", [1, 5, 100])
def test_rotated_products_depend_on_the_distance(shift: int) -> None:
    """The product of a query and a key depends on their distance, not on their positions."""
    q, k = jnp.asarray(normal(0, 1, 1, 1, H)), jnp.asarray(normal(1, 1, 1, 1, H))

    def product(at: int) -> float:
        query, key = (gemma.rotate(x, jnp.full((1, 1), n)) for x, n in ((q, at), (k, at + 3)))
        return float(jnp.sum(query * key))

    assert product(shift) == pytest.approx(product(0), abs=10 * ATOL)


def test_rotation_turns_halves_as_pairs() -> None:
    """The first coordinate pairs with the first of the second half, and turns by one radian per position."""
    x = jnp.zeros((1, 1, 1, H)).at[..., 0].set(1.0)
    rotated = np.asarray(gemma.rotate(x, jnp.full((1, 1), 2)))[0, 0, 0]
    expected = np.zeros(H)
    expected[[0, H // 2]] = np.cos(2.0), np.sin(2.0)
    np.testing.assert_allclose(rotated, expected, atol=ATOL)


@pytest.mark.parametrize("factor", [1e-2, 1.0, 1e4])
def test_the_norm_removes_the_scale(factor: float) -> None:
    """A normed vector has a root mean square of one, whatever its length."""
    normed, gate = gemma.RMSNorm(D)(jnp.asarray(normal(0, B, T, D) * factor))
    np.testing.assert_allclose(np.mean(np.asarray(normed) ** 2, -1), 1.0, rtol=0.05)
    assert gate is None


def test_the_norm_multiplies_by_one_plus_scale() -> None:
    """A scale of one doubles what a scale of zero gives."""
    norm, x = gemma.RMSNorm(D), jnp.asarray(normal(0, B, T, D))
    before, _ = norm(x)
    norm.scale[...] = jnp.ones(D)
    np.testing.assert_allclose(norm(x)[0], 2 * before, rtol=1e-6)


def test_an_adaptive_norm_of_zeros_is_a_plain_one_with_a_closed_gate() -> None:
    """Before training, adaRMS norms as RMSNorm does, whatever the condition, and its gate is zero."""
    x, cond = jnp.asarray(normal(0, B, T, D)), jnp.asarray(normal(1, B, D))
    normed, gate = gemma.AdaRMSNorm(D)(x, cond)
    np.testing.assert_array_equal(normed, gemma.RMSNorm(D)(x)[0])
    np.testing.assert_array_equal(gate, jnp.zeros((B, 1, D)))


def test_adaptive_norm_scales_shifts_and_gates_in_this_order() -> None:
    """The first third of the projection scales, the second shifts, the third is the gate."""
    norm, x = gemma.AdaRMSNorm(D), jnp.asarray(normal(0, B, T, D))
    norm.Dense_0.bias[...] = jnp.concatenate([jnp.full(D, n) for n in (1.0, 10.0, 100.0)])
    normed, gate = norm(x, jnp.zeros((B, D)))
    np.testing.assert_allclose(normed, 2 * gemma.RMSNorm(D)(x)[0] + 10, rtol=1e-5)
    assert (gate == 100).all()


def test_embeddings_are_scaled_by_the_root_of_the_width() -> None:
    """A token's embedding is its row of the table times sqrt(width)."""
    embedder, table = gemma.Embedder(7, 16), normal(0, 7, 16)
    embedder.input_embedding[...] = jnp.asarray(table)
    np.testing.assert_allclose(embedder(jnp.asarray([[3, 0]])), 4 * table[[[3, 0]]], rtol=1e-6)


@pytest.mark.parametrize("lengths", [[2, 3], [0, 3], [3, 0]])
def test_tokens_are_split_by_expert(lengths: list[int]) -> None:
    """Each expert gets its own tokens back, or None if it has none."""
    encoded = jnp.arange(sum(lengths))[None]
    parts = gemma._split_tokens(encoded, lengths)
    assert [0 if part is None else part.shape[1] for part in parts] == lengths
    assert np.concatenate([p for p in parts if p is not None], axis=1).tolist() == encoded.tolist()


def test_dropped_values_are_zero_and_the_others_scaled_up() -> None:
    """A kept value is divided by the kept share, so the mean stays; the experts drop different values."""
    xs = [jnp.ones((4, 50, 30)), None, jnp.ones((4, 50, 30))]
    first, absent, other = gemma.drop(xs, 0.25, jax.random.key(0))
    assert absent is None
    assert first is not None
    assert other is not None
    for dropped in (first, other):
        assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}
        # Four standard errors of the mean of 6000 values whose standard deviation is 0.58.
        assert abs(float(dropped.mean()) - 1) < 4 * 0.58 / 6000**0.5
    assert (np.asarray(first) != np.asarray(other)).any()


def test_without_a_key_nothing_is_dropped() -> None:
    """Outside of training there is no key, and the same arrays are returned."""
    xs = [jnp.ones((2, 3)), None]
    assert all(kept is x for kept, x in zip(gemma.drop(xs, 0.5, None), xs, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropping_keeps_the_dtype(dtype: str) -> None:
    """The remaining values keep their dtype."""
    (dropped,) = gemma.drop([jnp.ones((2, 3), dtype)], 0.5, jax.random.key(0))
    assert dropped is not None
    assert dropped.dtype == dtype
