"""Folding adapters into the weights, what it loses, and unfolding them again."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from pi0_compat.lora import fold as lora_fold
from pi0_compat.model import sites
from pi0_compat.model.specs import EXPERTS, LoRASpec
from pi0_compat.params import unflatten
from pi0_compat.paths import is_adapter
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.tiny_models import (
    ADAPTERS,
    BASE,
    LINEAR,
    LORA,
    Q_EINSUM,
    SPEC,
    Params,
    base_params,
    lora_params,
    weight_of,
    without,
)

WHOLE = lora_params()
# Rank and alpha of each expert's feed-forward adapters.
FFN = [LoRASpec(**SPEC[name]["lora"]["ffn"]) for name in EXPERTS]  # type: ignore[literal-required]
# Deltas are sums of at most rank x heads = 90 products of order one; float32 eps is 1.2e-7.
FOLD_ATOL = 1e-5


def test_fold_of_stacked_layers_is_the_stack_of_folds() -> None:
    """Folding all layers at once equals folding each on its own."""
    adapted = {weight_of(path) for path in ADAPTERS}
    stacked = lora_fold.fold(WHOLE, LORA).params
    for n in range(LORA.paligemma.depth):
        layer = {p: WHOLE[p][n : n + 1] for p in [*adapted, *ADAPTERS]}
        for path, folded in lora_fold.fold(layer, LORA).params.items():
            np.testing.assert_allclose(stacked[path][n], folded[0], atol=FOLD_ATOL, err_msg=path)


def test_fold_adds_the_delta_of_every_site() -> None:
    """Folding adds the delta of each site to its weight, with the config's rank and alpha."""
    folded = lora_fold.fold(WHOLE, LORA).params
    path = "PaliGemma/llm/layers/mlp_1/gating_einsum"
    delta = sites.delta(sites.SITES["gating_einsum"], WHOLE[f"{path}_lora_a"], WHOLE[f"{path}_lora_b"], FFN[1])
    assert np.abs(delta).max() > 0.1
    np.testing.assert_allclose(folded[path] - WHOLE[path], delta, atol=FOLD_ATOL)


def test_fold_touches_adapted_weights_only() -> None:
    """Folding changes the adapted weights and returns every other array unchanged."""
    folded = lora_fold.fold(WHOLE, LORA).params
    changed = {path for path, array in folded.items() if array is not WHOLE[path]}
    assert changed == {weight_of(path) for path in ADAPTERS}


def test_fold_of_zero_lora_b_is_the_base() -> None:
    """Folding adapters that compute nothing gives the base, bit for bit."""
    zeros = {path: np.zeros_like(WHOLE[path]) for path in ADAPTERS if path.endswith("lora_b")}
    assert_same_bits(lora_fold.fold(WHOLE | zeros, LORA).params, base_params())


def test_fold_of_a_base_is_the_base() -> None:
    """Without adapters there is nothing to fold."""
    assert_same_bits(lora_fold.fold(base_params(), LORA).params, base_params())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_fold_keeps_the_dtype_of_the_weight(dtype: str) -> None:
    """A folded weight keeps its dtype, even beside adapters of another dtype."""
    params = WHOLE | {LINEAR: WHOLE[LINEAR].astype(jnp.dtype(dtype) if dtype == "bfloat16" else dtype)}
    assert lora_fold.fold(params, LORA).params[LINEAR].dtype == params[LINEAR].dtype


def test_fold_of_bfloat16_is_formed_in_float32() -> None:
    """A bfloat16 weight is widened, the float32 delta added, and the sum rounded once."""
    w, a, b = (WHOLE[f"{LINEAR}{end}"].astype(ml_dtypes.bfloat16) for end in ("", "_lora_a", "_lora_b"))
    params = {LINEAR: w, f"{LINEAR}_lora_a": a, f"{LINEAR}_lora_b": b}
    delta = np.asarray(sites.delta(sites.SITES["linear"], a, b, FFN[0]))
    expected = (w.astype(np.float32) + delta).astype(ml_dtypes.bfloat16)
    narrow = w + delta.astype(ml_dtypes.bfloat16)
    assert_same_bits(lora_fold.fold(params, LORA).params, {LINEAR: expected})
    assert (expected != narrow).any()


@pytest.mark.parametrize(("place", "kind"), [(np.asarray, np.ndarray), (jnp.asarray, jax.Array)])
def test_fold_leaves_arrays_where_they_are(place: Any, kind: type) -> None:
    """Host arrays stay on the host and device arrays on the device."""
    folded = lora_fold.fold({path: place(array) for path, array in WHOLE.items()}, LORA).params
    assert all(isinstance(array, kind) for array in folded.values())


def test_fold_refuses_half_an_adapter() -> None:
    """Folding half an adapter is refused by the name of the missing half."""
    with pytest.raises(ValueError, match=f"^{Q_EINSUM}/lora_b is missing"):
        lora_fold.fold(without(WHOLE, f"{Q_EINSUM}/lora_b"), LORA)


def test_fold_refuses_a_config_without_the_adapter() -> None:
    """Without its alpha an adapter cannot be folded, and the error says what to pass."""
    with pytest.raises(ValueError, match=r"lora_a: the config has no LoRA there.*pass the config"):
        lora_fold.fold(WHOLE, BASE)


def test_fold_refuses_another_rank() -> None:
    """An adapter of another rank than the config's is refused with both ranks."""
    other = LoRASpec(rank=3, alpha=1.0)
    data = LORA.to_json()
    data["paligemma"]["lora"]["attn"] = other.to_json()
    with pytest.raises(ValueError, match=r"lora_a: rank 4, but the config says 3"):
        lora_fold.fold(WHOLE, type(LORA).from_json(data))


def test_fold_refuses_adapters_outside_of_the_language_model() -> None:
    """Adapters below another root, such as a checkpoint's ``params``, are refused by name."""
    with pytest.raises(ValueError, match="params/PaliGemma"):
        lora_fold.fold({f"params/{path}": array for path, array in WHOLE.items()}, LORA)


def test_fold_refuses_adapters_without_a_site() -> None:
    """An adapter matrix without a site is refused and not dropped."""
    stray = {f"{LINEAR}_lora_b_lora_a": np.ones(1, np.float32)}
    with pytest.raises(ValueError, match="_lora_b_lora_a"):
        lora_fold.fold(WHOLE | stray, LORA)


def in_bfloat16(share: float) -> Params:
    """Return the shared parameters with a base in bfloat16 and adapters scaled by `share`."""
    narrow = {path: x if is_adapter(path) else x.astype(ml_dtypes.bfloat16) for path, x in lora_params().items()}
    return narrow | {path: share * narrow[path] for path in ADAPTERS if path.endswith("lora_b")}


def test_fold_warns_of_what_bfloat16_cannot_hold() -> None:
    """A small delta on a bfloat16 weight is mostly lost, and the warning says where, how much and what to do."""
    with pytest.warns(UserWarning, match=r"mlp_1/.*: bfloat16 cannot hold 9\d%.*fold a float32 base"):
        lora_fold.fold(in_bfloat16(1e-3), LORA)


def test_what_a_fold_loses_grows_as_the_delta_shrinks() -> None:
    """In float32 almost nothing is lost; in bfloat16 the loss grows as the delta shrinks, to at most everything."""
    whole = lora_fold.fold(WHOLE, LORA).lost
    large = lora_fold.fold(in_bfloat16(1.0), LORA).lost
    with pytest.warns(UserWarning, match="bfloat16 cannot hold"):
        small = lora_fold.fold(in_bfloat16(1e-3), LORA).lost
    assert whole.keys() == large.keys() == small.keys() == {weight_of(path) for path in ADAPTERS}
    assert all(whole[path] < 1e-5 < large[path] < 0.02 for path in whole)
    assert all(0.5 < small[path] < 1.1 for path in small)


def test_a_zero_delta_loses_nothing() -> None:
    """A zero delta loses nothing and causes no division by zero."""
    zeros = {path: np.zeros_like(WHOLE[path]) for path in ADAPTERS if path.endswith("lora_b")}
    assert set(lora_fold.fold(WHOLE | zeros, LORA).lost.values()) == {0.0}


def test_fold_keeps_what_it_replaced() -> None:
    """The result has the adapters and the adapted weights, the same arrays, and nothing else."""
    replaced = lora_fold.fold(WHOLE, LORA).replaced
    assert sorted(replaced) == sorted({weight_of(path) for path in ADAPTERS} | set(ADAPTERS))
    assert all(replaced[path] is WHOLE[path] for path in replaced)


@pytest.mark.filterwarnings("ignore:.* cannot hold")
@pytest.mark.parametrize("share", [1.0, 1e-3])
def test_unfold_undoes_fold(share: float) -> None:
    """Unfolding restores base and adapters bit for bit, whatever the dtype lost."""
    params = in_bfloat16(share)
    folded = lora_fold.fold(params, LORA)
    assert_same_bits(lora_fold.unfold(folded.params, folded.replaced, LORA), params)
    assert_same_bits(lora_fold.unfold(unflatten(folded.params), unflatten(folded.replaced), LORA), params)


def test_unfold_refuses_weights_that_were_trained_since() -> None:
    """A folded weight that has changed is not replaced by the old one: the error names it."""
    folded = lora_fold.fold(WHOLE, LORA)
    with pytest.raises(ValueError, match=f"^{LINEAR}: not the weight"):
        lora_fold.unfold(folded.params | {LINEAR: folded.params[LINEAR] + 1e-3}, folded.replaced, LORA)


@pytest.mark.parametrize("change", [np.float16, ml_dtypes.bfloat16, None], ids=["float16", "bfloat16", "other shape"])
def test_unfold_refuses_another_model(change: type | None) -> None:
    """A folded model in another dtype or of another shape is refused by the weight's name."""
    folded = lora_fold.fold(WHOLE, LORA)
    weight = folded.params[LINEAR]
    other = weight[:1] if change is None else weight.astype(change)
    with pytest.raises(ValueError, match=f"^{LINEAR}: not the weight"):
        lora_fold.unfold(folded.params | {LINEAR: other}, folded.replaced, LORA)


def test_unfold_refuses_a_model_without_the_weight() -> None:
    """A folded model that lacks an adapted weight is refused by the weight's name."""
    folded = lora_fold.fold(WHOLE, LORA)
    with pytest.raises(ValueError, match=f"^{LINEAR}: the folded model lacks it"):
        lora_fold.unfold(without(folded.params, LINEAR), folded.replaced, LORA)
