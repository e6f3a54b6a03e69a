"""What adapters compute at each site in isolation; the oracle is ``lora.apply``, or a loop over heads."""

import math
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_compat.model import lora
from pi0_compat.model.sites import SITES, adapter_shapes
from pi0_compat.model.sites import delta as delta_of
from pi0_compat.model.specs import LoRASpec

# All distinct, so that a swapped axis is an error and not a wrong number.
SIZES = {"B": 2, "T": 9, "N": 4, "K": 3, "C": 5, "D": 8, "H": 6, "F": 10}
RANK = 2
SEEDS = st.integers(0, 2**32 - 1)
# Sums of at most N * H = 24 products of standard normals in float32 (eps 1.2e-7), scaled by up to 5.
ATOL = 1e-4

sites = pytest.mark.parametrize("name", SITES)


def normal(rng: np.random.Generator, axes: str) -> np.ndarray:
    return rng.standard_normal([SIZES[axis] for axis in axes], dtype=np.float32)


def arrays(name: str, seed: int, rank: int = RANK) -> tuple[np.ndarray, ...]:
    """Return an input, a weight, lora_a and lora_b for a site."""
    rng = np.random.default_rng(seed)
    x_axes, w_axes = SITES[name].base.split("->")[0].split(",")
    x, w = normal(rng, x_axes), normal(rng, w_axes)
    shape_a, shape_b = adapter_shapes(w.shape, rank)
    a, b = (rng.standard_normal(shape, dtype=np.float32) for shape in (shape_a, shape_b))
    return x, w, a, b


def apply(name: str, x: np.ndarray, w: np.ndarray, *adapter: np.ndarray, **spec: Any) -> np.ndarray:
    """Return the site's output as float32, with or without an adapter."""
    a, b = adapter or (None, None)
    options = LoRASpec(**({"rank": RANK, "alpha": 5.0} | spec)) if adapter else None
    out = lora.apply(SITES[name], jnp.asarray(x), jnp.asarray(w), a, b, options)
    return np.asarray(out, np.float32)


def delta_by_basis(name: str, w: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the delta of the weight, computed by passing every basis vector through ``apply``."""
    inputs, _, outputs = SITES[name].base.replace("->", ",").split(",")
    in_axes, w_axes = inputs[2:], SITES[name].base.split("->")[0].split(",")[1]
    sizes = [SIZES[axis] for axis in in_axes]
    basis = np.eye(math.prod(sizes), dtype=np.float32).reshape(-1, 1, *sizes)
    out = apply(name, basis, np.zeros_like(w), a, b).squeeze(outputs.index("T"))
    batch_first = np.moveaxis(out, outputs.index("B"), 0)
    split = batch_first.reshape(*sizes, *batch_first.shape[1:])
    axes = in_axes + outputs.replace("B", "").replace("T", "")
    return np.transpose(split, [axes.index(axis) for axis in w_axes])


@sites
def test_alpha_is_linear(name: str) -> None:
    """At every site twice the alpha adds twice as much to the base's output."""
    x, w, a, b = arrays(name, 0)
    base = apply(name, x, w)
    once, twice = (apply(name, x, w, a, b, alpha=alpha) - base for alpha in (5.0, 10.0))
    assert np.abs(once).max() > 1
    np.testing.assert_allclose(twice, 2 * once, atol=ATOL)


@sites
def test_rslora_divides_by_the_root_of_the_rank(name: str) -> None:
    """At every site rslora adds sqrt(rank) times as much as alpha / rank does."""
    x, w, a, b = arrays(name, 1)
    base = apply(name, x, w)
    plain, stabilized = (apply(name, x, w, a, b, rslora=on) - base for on in (False, True))
    np.testing.assert_allclose(stabilized, math.sqrt(RANK) * plain, atol=ATOL)


@sites
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
def test_a_zero_lora_b_adds_nothing(name: str, dtype: type) -> None:
    """With lora_b zero the output is the base's, bit for bit."""
    x, w, a, b = arrays(name, 2)
    adapted = apply(name, x.astype(dtype), w, a, np.zeros_like(b))
    assert adapted.tobytes() == apply(name, x.astype(dtype), w).tobytes()


@sites
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_computes_in_the_dtype_of_its_input(name: str, dtype: type) -> None:
    """The output has the input's dtype, whatever the dtypes of weight and adapter."""
    x, w, a, b = arrays(name, 3)
    spec = LoRASpec(rank=RANK, alpha=1.0)
    assert lora.apply(SITES[name], jnp.asarray(x, dtype), w, a, b, spec).dtype == dtype


@sites
def test_delta_equals_what_apply_adds(name: str) -> None:
    """The delta of a site equals what its adapter does to each basis vector."""
    _, w, a, b = arrays(name, 4)
    delta = delta_of(SITES[name], a, b, LoRASpec(rank=RANK, alpha=5.0))
    np.testing.assert_allclose(delta, delta_by_basis(name, w, a, b), atol=ATOL)


@sites
def test_delta_has_the_rank_of_the_adapter(name: str) -> None:
    """Each head's delta has at most the adapter's rank, and for generic values exactly that."""
    _, w, a, b = arrays(name, 5)
    assert (np.linalg.matrix_rank(delta_by_basis(name, w, a, b), tol=1e-3) == RANK).all()


@given(seed=SEEDS, name=st.sampled_from(sorted(SITES)))
@settings(max_examples=25)
def test_adding_the_delta_equals_applying_the_adapter(seed: int, name: str) -> None:
    """The base with the delta added to its weight computes what base and adapter compute."""
    x, w, a, b = arrays(name, seed)
    delta = np.asarray(delta_of(SITES[name], a, b, LoRASpec(rank=RANK, alpha=5.0)))
    largest = np.abs(delta).max() * x[0, 0].size
    np.testing.assert_allclose(apply(name, x, w + delta), apply(name, x, w, a, b), atol=1e-5 * largest)


@pytest.mark.parametrize("name", ["q_einsum", "kv_einsum", "qkv_einsum", "gating_einsum"])
def test_each_head_has_its_own_product(name: str) -> None:
    """Where inputs are not summed over heads, a head's delta is its own A @ B."""
    _, w, a, b = arrays(name, 6)
    delta = delta_by_basis(name, w, a, b)
    for head in np.ndindex(w.shape[:-2]):
        np.testing.assert_allclose(delta[head], 5.0 / RANK * a[head] @ b[head], atol=ATOL)


def test_attn_vec_sums_lora_b_over_heads() -> None:
    """In attn_vec_einsum, head n's delta is A[n] times the sum of all heads' B, as in openpi."""
    _, w, a, b = arrays("attn_vec_einsum", 7)
    delta = delta_by_basis("attn_vec_einsum", w, a, b)
    summed = sum(b[head] for head in range(len(b)))
    for head in range(len(a)):
        np.testing.assert_allclose(delta[head], 5.0 / RANK * a[head] @ summed, atol=5 * ATOL)


@sites
def test_delta_of_stacked_layers_is_the_stack_of_deltas(name: str) -> None:
    """Layers stacked in front do not mix."""
    layers = [arrays(name, seed)[2:] for seed in range(3)]
    spec, site = LoRASpec(rank=RANK, alpha=5.0), SITES[name]
    stacked_a, stacked_b = (np.stack(part) for part in zip(*layers, strict=True))
    stacked = delta_of(site, stacked_a, stacked_b, spec)
    for n, (a, b) in enumerate(layers):
        np.testing.assert_allclose(stacked[n], delta_of(site, a, b, spec), atol=ATOL)


@sites
def test_delta_of_bfloat16_adapters_is_formed_in_float32(name: str) -> None:
    """The delta of bfloat16 matrices is that of their values in float32."""
    _, _, a, b = (array.astype(ml_dtypes.bfloat16) for array in arrays(name, 8))
    spec, site = LoRASpec(rank=RANK, alpha=5.0), SITES[name]
    wide = delta_of(site, a.astype(np.float32), b.astype(np.float32), spec)
    assert np.asarray(delta_of(site, a, b, spec)).tobytes() == np.asarray(wide).tobytes()


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(1, 9))
def test_adapter_shapes_put_the_rank_between(shape: list[int], rank: int) -> None:
    """lora_a @ lora_b over the last two axes has the shape of the weight, for any number of axes."""
    shape_a, shape_b = adapter_shapes(tuple(shape), rank)
    assert (np.zeros(shape_a) @ np.zeros(shape_b)).shape == tuple(shape)
    assert (shape_a[-1], shape_b[-2]) == (rank, rank)
