"""Adapters as parameters: which belong together, and initializing, merging, extracting and folding them."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.golden_cases import full_size
from pi0_compat.lora import fold as lora_fold
from pi0_compat.lora.params import extract, initialize_lora_parameters, merge_parameters
from pi0_compat.lora.sites import adapter_of
from pi0_compat.params import unflatten
from pi0_compat.paths import is_adapter
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.tiny_models import (
    ADAPTERS,
    BASE,
    LINEAR,
    LORA,
    Params,
    base_params,
    lora_params,
    weight_of,
    without,
)

REAL_PATHS = sorted({path for model in full_size().values() for path in model.parameters})
WHOLE = lora_params()


@pytest.mark.parametrize("path", [path for path in REAL_PATHS if path.endswith(("lora_a", "lora_b"))])
def test_a_matrix_belongs_to_its_weight(path: str) -> None:
    """Every adapter matrix of openpi's models is one of the two of its weight."""
    adapter = adapter_of(path)
    assert adapter is not None
    assert adapter.weight == weight_of(path)
    assert path in (adapter.a, adapter.b)


def test_matrix_and_weight_name_the_same_adapter() -> None:
    """A weight, its lora_a and its lora_b map to the same three paths."""
    for path in REAL_PATHS:
        if adapter := adapter_of(path):
            assert [adapter_of(p) for p in (adapter.weight, adapter.a, adapter.b)] == [adapter] * 3


def test_exactly_the_adapted_weights_can_have_adapters() -> None:
    """Exactly those of openpi's weights can have an adapter that have one in a LoRA model."""
    adapted = {path for path in REAL_PATHS if not is_adapter(path) and adapter_of(path)}
    assert adapted == {weight_of(path) for path in REAL_PATHS if path.endswith(("lora_a", "lora_b"))}


def test_is_adapter_is_true_of_openpis_adapters_only() -> None:
    """Of openpi's real parameters, the adapters are those that a LoRA model adds to its base."""
    models = full_size()
    base = models["pi0_libero"].parameters.keys() | models["pi05_libero"].parameters.keys()
    assert {path for path in REAL_PATHS if is_adapter(path)} == set(REAL_PATHS) - base


@pytest.mark.parametrize(
    "path",
    [
        f"{LINEAR}_lora_b_lora_a",
        "action_in_proj/lora_a",
        "PaliGemma/img/head/kernel_lora_a",
        "PaliGemma/llm/layers/attn/o_einsum/lora_b",
        "PaliGemma/llm/layers/mlp/router_lora_a",
        "lora_a",
    ],
)
def test_other_paths_have_no_adapter(path: str) -> None:
    """A path with an adapter's name at a place without adapters belongs to none."""
    assert adapter_of(path) is None


@given(st.sets(st.sampled_from(sorted({weight_of(path) for path in ADAPTERS}))))
def test_merge_undoes_extract(dropped: set[str]) -> None:
    """Extracting adapters and merging them again gives the same arrays, whichever sites have one."""
    params = {p: x for p, x in WHOLE.items() if not (is_adapter(p) and weight_of(p) in dropped)}
    merged = merge_parameters(*extract(params))
    assert list(merged) == sorted(params)
    assert all(merged[path] is params[path] for path in params)


def test_extract_splits_by_name() -> None:
    """The base has no adapter, and the adapters have nothing else."""
    base, lora = extract(WHOLE)
    assert base.keys() == base_params().keys()
    assert sorted(lora) == ADAPTERS


def test_nested_parameters_are_merged_and_extracted() -> None:
    """Nested parameters are accepted like flat ones."""
    base, lora = extract(unflatten(WHOLE))
    merged = merge_parameters(unflatten(base), unflatten(lora))
    assert_same_bits(merged, WHOLE)


def test_functions_leave_their_arguments_alone() -> None:
    """Extracting, merging and folding change neither the dictionaries nor the arrays they are given."""
    params = lora_params()
    base, lora = extract(params)
    base_before, lora_before = dict(base), dict(lora)
    merge_parameters(base, lora)
    lora_fold.fold(params, LORA)
    assert (base, lora) == (base_before, lora_before)
    assert_same_bits(params, WHOLE)


@pytest.mark.parametrize("path", ADAPTERS)
def test_half_an_adapter_is_refused(path: str) -> None:
    """An adapter without one of its matrices is refused, and the missing one is named."""
    base, lora = extract(WHOLE)
    with pytest.raises(ValueError, match=f"^{path} is missing"):
        merge_parameters(base, without(lora, path))


def test_an_adapter_without_its_weight_is_refused() -> None:
    """An adapter whose weight is not in the base is refused, and the weight is named."""
    base, lora = extract(WHOLE)
    with pytest.raises(ValueError, match=f"^{LINEAR} is missing"):
        merge_parameters(without(base, LINEAR), lora)


def test_an_adapter_without_a_site_is_refused() -> None:
    """An adapter beside a weight that has none in a pi0 model is refused by name."""
    base, lora = extract(WHOLE)
    stray = {"state_proj/lora_a": np.zeros(1), "state_proj/lora_b": np.zeros(1)}
    with pytest.raises(ValueError, match="state_proj/lora_a is named like an adapter"):
        merge_parameters(base, lora | stray)


def test_overlap_is_refused() -> None:
    """Parameters both in the base and among the adapters are refused by name."""
    _, lora = extract(WHOLE)
    with pytest.raises(ValueError, match=f"20 parameters are in base_params and in lora_params.*{ADAPTERS[0]}"):
        merge_parameters(WHOLE, lora)


def test_other_parameters_among_the_adapters_are_refused() -> None:
    """Base weights among the adapters are refused by name."""
    with pytest.raises(ValueError, match="holds 1 parameters that are no adapters, for example head"):
        merge_parameters({}, {"head": np.zeros(1)})


@pytest.mark.parametrize("path", ADAPTERS)
@pytest.mark.parametrize("axis", [-1, -2, 0])
def test_matrices_that_do_not_fit_are_refused(path: str, axis: int) -> None:
    """A matrix that is shorter along any axis (rank, weight or layers) is refused."""
    base, lora = extract(WHOLE)
    shorter = np.delete(lora[path], -1, axis=axis)
    with pytest.raises(ValueError, match=r"lora_[ab]: expected shape .*, found "):
        merge_parameters(base, lora | {path: shorter})


@pytest.fixture(scope="module")
def fresh() -> Params:
    return initialize_lora_parameters(base_params(), LORA, seed=3)


def test_fresh_adapters_are_the_missing_ones(fresh: Params) -> None:
    """Fresh adapters and a base make a model that the config loads."""
    LORA.load(merge_parameters(base_params(), fresh))
    assert sorted(fresh) == ADAPTERS


def test_fresh_adapters_are_float32_for_any_base(fresh: Params) -> None:
    """Fresh adapters are float32 and depend on the seed alone, even for a bfloat16 base."""
    base = {path: x.astype(ml_dtypes.bfloat16) for path, x in base_params(seed=1).items()}
    again = initialize_lora_parameters(base, LORA, seed=3)
    assert {x.dtype for x in again.values()} == {np.dtype("float32")}
    assert_same_bits(again, fresh)


def test_a_config_without_lora_makes_no_adapters() -> None:
    """Asking for the adapters of a config without LoRA is refused."""
    with pytest.raises(ValueError, match="the config has no LoRA"):
        initialize_lora_parameters(base_params(), BASE, seed=0)


def test_a_base_with_adapters_gets_no_new_ones() -> None:
    """A base that already has adapters is refused, and the error says what to call."""
    with pytest.raises(ValueError, match=r"already has 20 adapter matrices, .*lora_a; use extract"):
        initialize_lora_parameters(WHOLE, LORA, seed=0)


@pytest.mark.parametrize("shape", [None, (1, 2)], ids=["missing", "another_shape"])
def test_a_base_without_the_adapted_weight_is_refused(shape: tuple[int, ...] | None) -> None:
    """A base whose adapted weight is missing or of another shape is refused by the weight's name."""
    base = without(base_params(), LINEAR) | ({} if shape is None else {LINEAR: np.zeros(shape)})
    with pytest.raises(ValueError, match=f"^{LINEAR}: expected shape .*, found"):
        initialize_lora_parameters(base, LORA, seed=0)
