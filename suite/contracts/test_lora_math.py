"""What adapters compute. The oracle is the subject's own forward pass, never a second copy of a formula."""

import math

import numpy as np
import pytest

from fixtures import content, observations
from fixtures.params import Params
from fixtures.specs import LoraSpec, ModelSpec, tiny, without_lora
from suite.contracts.checkpoints import Checkpoint
from suite.contracts.lora_sites import at_every_site, lora_a_of, lora_b_paths, one_site_at_a_time
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_different, assert_same_bits
from suite.writing.cases import is_adapter

SPECS = {
    "one_kv_head": tiny("pi0", lora="both"),
    "two_kv_heads": tiny("pi05", lora="both", num_kv_heads=2),
    "as_many_kv_heads_as_query_heads": tiny("pi0", lora="both", num_kv_heads=6),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
# The folded and the adapted model round differently: float32 eps (1.2e-7) over three layers with sums of about 100
# terms. Each site alone changes a loss by at least 1 %.
FOLD_RTOL = 1e-4


@contract(
    source="openpi lora.py:53 and its head sum; docs/bugs.md#a3, #a4, #a5, #a17",
    needs=("fold", "loss", "lora", "float32"),
)
@every_spec
def test_fold_equals_forward(subject: Subject, spec: ModelSpec) -> None:
    """Folding adapters into the weights changes no loss, for alpha != rank and random A, B."""
    params, batch = content.params(spec), observations.batch(spec)
    weights = [path for path in params if not is_adapter(path)]
    folded = subject.fold(spec, params)
    adapted, base = loss(subject, spec, params, batch), without_lora(spec)
    assert_close(loss(subject, base, {path: folded[path] for path in weights}, batch), adapted, rtol=FOLD_RTOL)
    assert_different(loss(subject, base, {path: params[path] for path in weights}, batch), adapted)


@contract(
    source="openpi lora.py:67, community merge scripts; docs/bugs.md#a5, #a17, #g2",
    needs=("fold", "loss", "lora", "float32"),
)
@every_spec
def test_fold_equals_forward_at_each_site(subject: Subject, spec: ModelSpec) -> None:
    """Each site alone, with all others zero, computes the same through all layers as when it is folded."""
    params, batch = content.params(spec), observations.batch(spec)
    base = without_lora(spec)
    unadapted = loss(subject, base, {path: x for path, x in params.items() if not is_adapter(path)}, batch)
    for path, only in one_site_at_a_time(params):
        adapted = loss(subject, spec, only, batch)
        assert_different(adapted, unadapted)
        assert_close(loss(subject, base, subject.fold(spec, only), batch), adapted, rtol=FOLD_RTOL, name=path)


@contract(
    source="arXiv:2106.09685 section 4.1; openpi lora.py:144; docs/bugs.md#a3",
    needs=("loss", "lora", "float32"),
)
def test_scale_is_alpha_over_rank_at_each_site(subject: Subject, lora_spec: ModelSpec, batch: Params) -> None:
    """At each site, doubling the rank with zeros and multiplying alpha by six triples the adapter's effect."""

    def sixfold(lora: LoraSpec) -> LoraSpec:
        # With rslora the scale has the square root of the rank.
        alpha = lora["alpha"] * 3 * (math.sqrt(2) if lora["rslora"] else 2)
        return {**lora, "rank": 2 * lora["rank"], "alpha": alpha}

    params, twin = content.params(lora_spec), at_every_site(lora_spec, sixfold)
    for path, only in one_site_at_a_time(params):
        padded = {p: np.concatenate([x, 0 * x], axis=-1) for p, x in only.items() if p.endswith("lora_a")}
        padded |= {p: np.concatenate([x, 0 * x], axis=-2) for p, x in only.items() if p.endswith("lora_b")}
        expected = loss(subject, lora_spec, only | {path: 3 * only[path]}, batch)
        assert_close(loss(subject, twin, only | padded, batch), expected, rtol=FOLD_RTOL, name=path)


@contract(source="arXiv:2312.03732; openpi lora.py:27; docs/bugs.md#a4", needs=("loss", "lora", "float32"))
def test_rslora_divides_by_the_root_of_the_rank(subject: Subject, lora_spec: ModelSpec, batch: Params) -> None:
    """At each site, rslora has the effect of multiplying alpha by the square root of the rank."""

    def toggle(lora: LoraSpec) -> LoraSpec:
        root = math.sqrt(lora["rank"])
        alpha = lora["alpha"] * root if lora["rslora"] else lora["alpha"] / root
        return {**lora, "alpha": alpha, "rslora": not lora["rslora"]}

    twin = at_every_site(lora_spec, toggle)
    for path, only in one_site_at_a_time(content.params(lora_spec)):
        expected = loss(subject, lora_spec, only, batch)
        assert_close(loss(subject, twin, only, batch), expected, rtol=FOLD_RTOL, name=path)


@contract(source="arXiv:2106.09685 section 4.1; docs/bugs.md#a1", needs=("loss", "lora"))
def test_zero_lora_b_is_the_base_model(subject: Subject, lora_checkpoint: Checkpoint, batch: Params) -> None:
    """With lora_b zero, a LoRA model computes what its base computes, bit for bit, for any lora_a."""
    spec, params = lora_checkpoint.spec, lora_checkpoint.params
    base = {path: x for path, x in params.items() if not is_adapter(path)}
    zeros = {path: np.zeros_like(params[path]) for path in lora_b_paths(params)}
    large = {lora_a_of(path): 100 * params[lora_a_of(path)] for path in zeros}
    expected = {"loss": loss(subject, without_lora(spec), base, batch)}
    assert_same_bits({"loss": loss(subject, spec, params | zeros, batch)}, expected)
    assert_same_bits({"loss": loss(subject, spec, params | zeros | large, batch)}, expected)


@contract(source="openpi lora.py:86; docs/bugs.md#a5, #p8", needs=("loss", "lora", "float32"))
@every_spec
def test_attn_vec_sees_the_sum_of_lora_b_over_heads(subject: Subject, spec: ModelSpec) -> None:
    """Only the sum of attn_vec_einsum's lora_b over heads matters: moving the sum to one head changes no loss."""
    params, batch = content.params(spec), observations.batch(spec)
    paths = [path for path in lora_b_paths(params) if "attn_vec_einsum" in path]
    gathered = {path: np.zeros_like(params[path]) for path in paths}
    for path in paths:
        gathered[path][:, 2] = params[path].sum(axis=1)
    adapted = loss(subject, spec, params, batch)
    assert_close(loss(subject, spec, params | gathered, batch), adapted, rtol=FOLD_RTOL)
    lost = {path: params[path] * (np.arange(params[path].shape[1]) == 2)[:, None, None] for path in paths}
    assert_different(loss(subject, spec, params | lost, batch), adapted)


def loss(subject: Subject, spec: ModelSpec, params: Params, batch: Params) -> np.ndarray:
    """Return the loss at the batch's own noise and time."""
    return np.asarray(subject.loss(spec, params, batch, batch["noise"], batch["time"], seed=0))
