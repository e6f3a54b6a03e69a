"""What an adapter adds to its weight: the same bits on every machine, a block of rows at a time."""

import numpy as np
import pytest

from pi0_compat.model import sites
from pi0_compat.model.specs import LoRASpec

LORA = LoRASpec(rank=6, alpha=9.0)
# Leading axes of each site's weight, without layers.
LEAD = {
    "q_einsum": (4,),
    "kv_einsum": (2, 2),
    "qkv_einsum": (3, 4),
    "attn_vec_einsum": (4,),
    "gating_einsum": (2,),
    "linear": (),
}


def adapter(site: str) -> tuple[np.ndarray, np.ndarray]:
    """Return lora_a [3, ..., 40, 6] and lora_b [3, ..., 6, 24] of a site, three layers stacked in front."""
    rng = np.random.default_rng(len(site))
    a, b = ((3, *LEAD[site], *shape) for shape in ((40, LORA.rank), (LORA.rank, 24)))
    return rng.standard_normal(a, np.float32), rng.standard_normal(b, np.float32)


@pytest.mark.parametrize("site", sites.SITES)
def test_the_delta_is_the_einsum_rounded_once(site: str) -> None:
    """The delta is the site's own einsum times alpha / rank, rounded to float32 from float64."""
    a, b = adapter(site)
    exact = np.einsum(sites.SITES[site].delta, a.astype(np.float64), b.astype(np.float64)) * 1.5
    np.testing.assert_array_equal(sites.delta(sites.SITES[site], a, b, LORA), exact.astype(np.float32))


@pytest.mark.parametrize("site", sites.SITES)
def test_the_order_of_summation_does_not_matter(site: str) -> None:
    """The ranks of both matrices in another order give the same bits, as another machine's BLAS would sum them."""
    a, b = adapter(site)
    order = np.random.default_rng(1).permutation(LORA.rank)
    delta = sites.delta(sites.SITES[site], a, b, LORA)
    np.testing.assert_array_equal(delta, sites.delta(sites.SITES[site], a[..., order], b[..., order, :], LORA))
    # In float32 the order shows.
    assert (a @ b != a[..., order] @ b[..., order, :]).any()


@pytest.mark.parametrize("block", [1, 24, 100, 1 << 21])
def test_the_size_of_a_block_does_not_matter(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    a, b = adapter("gating_einsum")
    whole = sites.delta(sites.SITES["gating_einsum"], a, b, LORA)
    monkeypatch.setattr(sites, "_TILE", block)
    np.testing.assert_array_equal(sites.delta(sites.SITES["gating_einsum"], a, b, LORA), whole)
