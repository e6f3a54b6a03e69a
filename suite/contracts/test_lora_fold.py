"""Adapters as parameters: fold them into the weights and unfold them, split them from the base and merge them."""

import ml_dtypes
import numpy as np
import pytest

from fixtures import content
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny
from suite.contracts.lora_sites import at_every_site, lora_b_paths, weight_of
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_different, assert_same_bits, assert_same_paths, refused
from suite.writing.cases import is_adapter

SPECS = {
    "one_kv_head": tiny("pi0", lora="both"),
    "as_many_kv_heads_as_query_heads": tiny("pi05", lora="both", num_kv_heads=6),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# For matrix products in float32, whose remaining singular values are rounding errors (1e-7 of the largest).
RANK_RTOL = 1e-4
# Scales the fixtures' adapters down so far that bfloat16 weights lose most of the delta to rounding.
SMALL = 1e-3
# The share is itself computed in float32, from small differences of numbers a hundred times larger.
LOSS_RTOL = 1e-2


def base_of(params: Params) -> Params:
    """Return the parameters that are no adapters."""
    return {path: array for path, array in params.items() if not is_adapter(path)}


def adapters_of(params: Params) -> Params:
    """Return the parameters that are adapters."""
    return {path: array for path, array in params.items() if is_adapter(path)}


@contract(source="arXiv:2106.09685 section 4.1; docs/bugs.md#a6, #a17", needs=("fold", "lora"))
@every_spec
def test_delta_has_the_rank_of_its_adapter(subject: Subject, spec: ModelSpec) -> None:
    """An adapter's delta has the adapter's rank in each layer and head: no more, and for random values no less."""
    params = content.params(spec)
    zeros = {weight_of(path): np.zeros_like(params[weight_of(path)]) for path in lora_b_paths(params)}
    folded = subject.fold(spec, params | zeros)
    for path in lora_b_paths(params):
        matrices = folded[weight_of(path)].astype(np.float64)
        ranks = set(np.linalg.matrix_rank(matrices, rtol=RANK_RTOL).flat)
        assert ranks == {params[path].shape[-2]}, path


@contract(source="openpi #396, PR #960; docs/bugs.md#g15", needs=("fold", "lora"))
@every_spec
def test_of_bfloat16_is_formed_in_float32(subject: Subject, spec: ModelSpec) -> None:
    """A bfloat16 weight is folded like its values in float32 and rounded to bfloat16 once, at the end."""
    params = content.params(spec)
    stored = {path: x if is_adapter(path) else x.astype(BFLOAT16) for path, x in params.items()}
    wide = subject.fold(spec, {path: x.astype(np.float32) for path, x in stored.items()})
    assert_same_bits(subject.fold(spec, stored), {path: x.astype(BFLOAT16) for path, x in wide.items()})


@contract(source="openpi PR #960; docs/bugs.md#g15", needs=("fold", "fold_losses", "lora"))
@every_spec
def test_tells_what_rounding_took(subject: Subject, spec: ModelSpec) -> None:
    """A fold reports for every site the share of the adapter's delta that is lost: most of a small one in bfloat16,
    none in float32."""
    params = content.params(spec)
    params |= {path: SMALL * params[path] for path in lora_b_paths(params)}
    stored = {path: x if is_adapter(path) else x.astype(BFLOAT16) for path, x in params.items()}
    wide = {path: x.astype(np.float32) for path, x in stored.items()}
    before, exact, folded = wide, subject.fold(spec, wide), subject.fold(spec, stored)
    losses, float32_losses = (subject.fold_losses(spec, p) for p in (stored, wide))
    for path in map(weight_of, lora_b_paths(params)):
        lost = np.linalg.norm(folded[path].astype(np.float32) - exact[path]) / np.linalg.norm(
            exact[path] - before[path]
        )
        assert lost > 0.5, path
        assert_close(losses[path], lost, rtol=LOSS_RTOL, name=path)
        assert float32_losses[path] < 1e-3, path


@contract(source="requested by users: openpi #396, #958; peft's unmerge", needs=("fold", "unfold", "lora"))
@every_spec
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_unfold_gives_the_base_back(subject: Subject, spec: ModelSpec, dtype: str) -> None:
    """Folding and unfolding gives back base and adapters bit for bit, even where subtracting the delta cannot."""
    params = content.params(spec, dtype=dtype)
    before = {path: x.copy() for path, x in params.items()}
    assert_same_bits(subject.unfold(spec, params), before)
    assert_same_bits(params, before)


@contract(source="requested by users: openpi #985", needs=("extract", "lora"))
@every_spec
def test_extract_gives_the_base(subject: Subject, spec: ModelSpec) -> None:
    """The base that is split from a LoRA model is every parameter that is no adapter, bit for bit."""
    params = content.params(spec)
    assert_same_bits(subject.extract(spec, params)["base"], base_of(params))


@contract(source="requested by users: openpi #985", needs=("extract", "lora"))
@every_spec
def test_extract_gives_the_adapters(subject: Subject, spec: ModelSpec) -> None:
    """The adapters that are split from a LoRA model are all of them, bit for bit."""
    params = content.params(spec)
    assert_same_bits(subject.extract(spec, params)["lora"], adapters_of(params))


@contract(source="requested by users: openpi #985", needs=("merge", "lora"))
@every_spec
def test_merge_undoes_extract(subject: Subject, spec: ModelSpec) -> None:
    """Merging the base and the adapters of a LoRA model gives the model, bit for bit."""
    params = content.params(spec)
    assert_same_bits(subject.merge(spec, base_of(params), adapters_of(params)), params)


@contract(source="openpi weight_loaders.py:90; docs/bugs.md#c4", needs=("fold", "lora"))
@every_spec
def test_half_an_adapter_is_not_folded(subject: Subject, spec: ModelSpec) -> None:
    """An adapter with one matrix missing is not folded, and the error names the missing one."""
    params = content.params(spec)
    for path in adapters_of(params):
        with refused(path):
            subject.fold(spec, {p: x for p, x in params.items() if p != path})


@contract(source="openpi weight_loaders.py:90; docs/bugs.md#c4", needs=("merge", "lora"))
@every_spec
def test_half_an_adapter_is_not_merged(subject: Subject, spec: ModelSpec) -> None:
    """An adapter with one matrix missing is not merged, and the error names the missing one."""
    params = content.params(spec)
    lora = adapters_of(params)
    for path in lora:
        with refused(path):
            subject.merge(spec, base_of(params), {p: x for p, x in lora.items() if p != path})


@contract(source="openpi stores neither rank nor alpha; docs/bugs.md#e9", needs=("fold", "lora"))
@pytest.mark.parametrize("config", ["another_rank", "no_adapters"])
def test_another_rank_is_refused(subject: Subject, lora_spec: ModelSpec, base_spec: ModelSpec, config: str) -> None:
    """Adapters are folded with the config they were trained with: a config with another rank, or without adapters, has
    no alpha for them and is refused by the adapter's name."""
    other = at_every_site(lora_spec, lambda lora: {**lora, "rank": lora["rank"] + 1})
    params = content.params(lora_spec)
    with refused("lora_"):
        subject.fold(other if config == "another_rank" else base_spec, params)


@contract(source="a public fork that reshapes and truncates; docs/bugs.md#p8", needs=("fold", "lora"))
@every_spec
def test_adapters_of_another_layout_are_refused(subject: Subject, spec: ModelSpec) -> None:
    """An adapter whose matrices do not fit the weight is refused by name, never truncated or reshaped to fit."""
    params = content.params(spec)
    for path in filter(is_adapter, params):
        matrix = params[path]
        for other in (matrix[..., :-1], matrix[:-1], np.swapaxes(matrix, -1, -2), matrix.sum(axis=1)):
            with refused(path.rpartition("lora_")[0]):
                subject.fold(spec, params | {path: other})


@contract(source="a merge that walks the top level and removes nothing; docs/bugs.md#g2", needs=("fold", "lora"))
@every_spec
def test_leaves_no_adapter(subject: Subject, spec: ModelSpec) -> None:
    """A folded model has every weight of the LoRA model, and no adapter."""
    params = content.params(spec)
    assert_same_paths(subject.fold(spec, params), base_of(params))


@contract(source="pi0_compat/lora/fold.py; docs/bugs.md#g15", needs=("fold", "lora", "pi0"))
def test_changes_nothing_but_adapted_weights(subject: Subject, lora_spec: ModelSpec) -> None:
    """Folding leaves every weight without an adapter as it is, bit for bit."""
    params = content.params(lora_spec, dtype="bfloat16")
    kept = base_of(params).keys() - set(map(weight_of, lora_b_paths(params)))
    folded = subject.fold(lora_spec, params)
    assert_same_bits({path: folded[path] for path in kept}, {path: params[path] for path in kept})


@contract(source="pi0_compat/lora/fold.py; docs/bugs.md#g15", needs=("fold", "lora", "pi0"))
def test_changes_every_adapted_weight(subject: Subject, lora_spec: ModelSpec) -> None:
    """Folding changes every weight that has an adapter, in its own dtype."""
    params = content.params(lora_spec, dtype="bfloat16")
    folded = subject.fold(lora_spec, params)
    for path in map(weight_of, lora_b_paths(params)):
        assert folded[path].dtype == params[path].dtype, path
        assert_different(folded[path], params[path])


@contract(source="numpy's in-place operators", needs=("fold", "lora", "pi0"))
def test_changes_no_argument(subject: Subject, lora_spec: ModelSpec) -> None:
    """Folding changes none of the arrays that it is given."""
    params = content.params(lora_spec, dtype="bfloat16")
    before: Params = {path: x.copy() for path, x in params.items()}
    subject.fold(lora_spec, params)
    assert_same_bits(params, before)
