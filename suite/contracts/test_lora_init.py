"""Fresh adapters: a LoRA model starts as its base model, and can learn."""

import copy
import re

import numpy as np
import pytest

from fixtures.params import Params
from fixtures.specs import ModelSpec
from suite.contracts.checkpoints import Checkpoint
from suite.contracts.lora_sites import lora_b_paths, weight_of
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_different, assert_same_bits, refused
from suite.writing.cases import LEAN, from_checkpoint, is_adapter, training_options

LORA_A_STDDEV = 0.01
# The paper and PEFT call it r.
RANK = re.compile(r"\br(ank)?\b")


@contract(
    source="arXiv:2106.09685 section 4.1; docs/bugs.md#a1",
    needs=("load", "openpi", "loss", "sample_actions", "lora"),
)
def test_starts_as_the_base_model(
    subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec, batch: Params
) -> None:
    """Right after initialization, the LoRA model computes what the base model computes, bit for bit."""
    adapted = subject.load(lora_spec, from_checkpoint(base_checkpoint.path), seed=0)["params"]
    models = [(base_checkpoint.spec, base_checkpoint.params), (lora_spec, adapted)]
    noise, time = batch["noise"], batch["time"]
    base, lora = (subject.loss(spec, params, batch, noise, time, seed=0) for spec, params in models)
    assert_same_bits({"loss": lora}, {"loss": base})
    base, lora = (subject.sample_actions(spec, params, batch, noise, num_steps=4) for spec, params in models)
    assert_same_bits({"actions": lora}, {"actions": base})


@contract(source="arXiv:2106.09685 section 4.1; openpi lora.py:20; docs/bugs.md#a1, #a2", needs=("init", "lora"))
def test_lora_b_is_zero_and_lora_a_is_not(subject: Subject, lora_spec: ModelSpec) -> None:
    """A fresh lora_b is zero; a fresh lora_a is normal with standard deviation 0.01, different at every site."""
    adapters = {path: array for path, array in subject.init(lora_spec, 0).items() if is_adapter(path)}
    for path, array in adapters.items():
        expected = 0.0 if path.endswith("lora_b") else LORA_A_STDDEV
        # Five standard errors of a standard deviation from array.size samples.
        assert abs(array.std() - expected) <= 5 * expected / np.sqrt(2 * array.size), path
        assert abs(array.mean()) <= 5 * expected / np.sqrt(array.size), path
    firsts = [array.flat[0] for path, array in adapters.items() if path.endswith("lora_a")]
    assert len(set(firsts)) == len(firsts)


@contract(source="docs/bugs.md#a13", needs=("init", "lora"))
def test_depends_on_the_seed_alone(subject: Subject, base_spec: ModelSpec, lora_spec: ModelSpec) -> None:
    """Equal seeds give equal models and different seeds different ones; base parameters do not depend on LoRA."""
    first, again, other = (subject.init(lora_spec, seed) for seed in (0, 0, 1))
    assert_same_bits(again, first)
    for path in (path for path in first if path.endswith("lora_a")):
        assert_different(first[path], other[path])
    base = subject.init(base_spec, 0)
    assert_same_bits({path: first[path] for path in base}, base)


@contract(source="openpi weight_loaders.py:54; docs/bugs.md#p1, #rule-4", needs=("load", "openpi", "lora"))
def test_load_adds_the_same_adapters_for_the_same_seed(
    subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec
) -> None:
    """Adapters that a load adds depend only on its seed: lora_b is zero, and the same seed draws the same lora_a."""
    source = from_checkpoint(base_checkpoint.path)
    first, again, other = (subject.load(lora_spec, source, seed)["params"] for seed in (0, 0, 1))
    assert_same_bits(again, first)
    for path in filter(is_adapter, first):
        if path.endswith("lora_a"):
            assert_different(first[path], other[path])
        else:
            assert_same_bits({path: first[path]}, {path: np.zeros_like(first[path])})


@contract(
    source="arXiv:2106.09685; openpi lora.py:20 with zeros; docs/bugs.md#a2",
    needs=("load", "openpi", "train", "fold", "lora"),
)
def test_can_learn(subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec, batch: Params) -> None:
    """The first optimizer step already changes every lora_b, so that no adapter's delta is zero any longer."""
    params = subject.load(lora_spec, from_checkpoint(base_checkpoint.path), seed=0)["params"]
    # Weight decay does not change a zero, so the change comes from the gradient.
    trained = subject.train(lora_spec, params, [batch], training_options(**LEAN))["params"]
    sites = lora_b_paths(trained)
    assert [path for path in sites if not trained[path].any()] == []
    zeros = {weight_of(path): np.zeros_like(params[weight_of(path)]) for path in sites}
    folded = subject.fold(lora_spec, trained | zeros)
    assert [path for path in zeros if not folded[path].any()] == []


@contract(source="docs/bugs.md#a11; docs/decisions/0004", needs=("param_spec", "lora"))
@pytest.mark.parametrize("rank", [0, -1, 2.5, 57, 1000])
@pytest.mark.parametrize("group", ["attn", "ffn"])
def test_impossible_rank_is_refused(subject: Subject, lora_spec: ModelSpec, group: str, rank: float) -> None:
    """A rank that is not a positive integer, or exceeds the smaller dimension of a projection (here the width, 56), is
    refused by its value; the largest possible rank is accepted."""
    spec, largest = copy.deepcopy(lora_spec), copy.deepcopy(lora_spec)
    spec["paligemma"]["lora"][group]["rank"] = rank  # type: ignore[index,literal-required]
    largest["paligemma"]["lora"][group]["rank"] = 56  # type: ignore[index,literal-required]
    assert subject.param_spec(largest)
    with refused(RANK, str(rank)):
        subject.param_spec(spec)
