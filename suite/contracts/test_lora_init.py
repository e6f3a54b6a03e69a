"""Fresh adapters: a LoRA model starts as its base model, and can learn."""

import copy
import re

import numpy as np
import pytest

from fixtures.params import Params
from fixtures.specs import ModelSpec
from suite.contracts.checkpoints import Checkpoint
from suite.contracts.lora_sites import lora_b_paths
from suite.contracts.training_runs import LORA
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_different, assert_same_bits, refused
from suite.writing.cases import from_checkpoint, is_adapter
from suite.writing.remembered import Remembered

LORA_A_STDDEV = 0.01
# The paper and PEFT call it r.
RANK = re.compile(r"\br(ank)?\b")
INIT = ("init", "lora")
LOADED = ("load", "openpi", "lora")


class Fresh:
    """Fresh parameters of the LoRA model, by seed: drawn, or added by a load of its base; each is asked for once."""

    def __init__(self, subject: Subject, remembered: Remembered, spec: ModelSpec, base: Checkpoint) -> None:
        self._subject, self._remembered, self._spec, self._base = subject, remembered, spec, base

    def drawn(self, seed: int) -> Params:
        """Return all parameters of a fresh model."""
        return self._remembered(("fresh", seed), lambda: self._subject.init(self._spec, seed))

    def loaded(self, seed: int) -> Params:
        """Return all parameters of a model that a base checkpoint was loaded into."""
        source = from_checkpoint(self._base.path)
        loaded = self._remembered(("fresh", "loaded", seed), lambda: self._subject.load(self._spec, source, seed))
        params: Params = loaded["params"]
        return params


@pytest.fixture
def fresh(subject: Subject, remembered: Remembered, lora_spec: ModelSpec, base_checkpoint: Checkpoint) -> Fresh:
    return Fresh(subject, remembered, lora_spec, base_checkpoint)


def parts(params: Params, ending: str) -> Params:
    """Return the adapters' matrices of one kind; there are some."""
    found = {path: array for path, array in params.items() if path.endswith(ending)}
    assert found, f"no {ending}"
    return found


@contract(source="arXiv:2106.09685 section 4.1; docs/bugs.md#a1", needs=(*INIT, "loss", "pi0"))
def test_starts_with_the_loss_of_its_base(
    subject: Subject, fresh: Fresh, base_spec: ModelSpec, lora_spec: ModelSpec, batch: Params
) -> None:
    """Right after initialization, the losses of a LoRA model are those of its base model, bit for bit."""
    params = fresh.drawn(0)
    base = {path: array for path, array in params.items() if not is_adapter(path)}
    models, draws = [(base_spec, base), (lora_spec, params)], (batch["noise"], batch["time"])
    expected, actual = (subject.loss(spec, params, batch, *draws, seed=0) for spec, params in models)
    assert_same_bits({"loss": actual}, {"loss": expected})


@contract(source="arXiv:2106.09685 section 4.1; docs/bugs.md#a1", needs=(*INIT, "sample_actions", "pi0"))
def test_starts_with_the_actions_of_its_base(
    subject: Subject, fresh: Fresh, base_spec: ModelSpec, lora_spec: ModelSpec, batch: Params
) -> None:
    """Right after initialization, a LoRA model samples the actions of its base model, bit for bit."""
    params = fresh.drawn(0)
    base = {path: array for path, array in params.items() if not is_adapter(path)}
    models = [(base_spec, base), (lora_spec, params)]
    expected, actual = (subject.sample_actions(spec, p, batch, batch["noise"], num_steps=4) for spec, p in models)
    assert_same_bits({"actions": actual}, {"actions": expected})


@contract(source="arXiv:2106.09685 section 4.1; docs/bugs.md#a1", needs=INIT)
def test_lora_b_is_zero(subject: Subject, fresh: Fresh) -> None:
    """A fresh lora_b is zero at every site."""
    matrices = parts(fresh.drawn(0), "lora_b")
    assert_same_bits(matrices, {path: np.zeros_like(array) for path, array in matrices.items()})


@contract(source="arXiv:2106.09685 section 4.1; docs/bugs.md#a2", needs=INIT)
def test_lora_a_is_not_zero(subject: Subject, fresh: Fresh) -> None:
    """A fresh lora_a is drawn: at no site is it zero, and no two sites have the same numbers."""
    matrices = parts(fresh.drawn(0), "lora_a")
    assert [path for path, array in matrices.items() if not array.any()] == []
    assert len({array.flat[0] for array in matrices.values()}) == len(matrices)


@contract(source="openpi lora.py:20", needs=INIT)
def test_lora_a_is_normal(subject: Subject, fresh: Fresh) -> None:
    """A fresh lora_a is normal with standard deviation 0.01."""
    for path, array in parts(fresh.drawn(0), "lora_a").items():
        # Five standard errors of a standard deviation, and of a mean, from array.size samples.
        assert abs(array.std() - LORA_A_STDDEV) <= 5 * LORA_A_STDDEV / np.sqrt(2 * array.size), path
        assert abs(array.mean()) <= 5 * LORA_A_STDDEV / np.sqrt(array.size), path


@contract(source="docs/bugs.md#a13", needs=INIT)
def test_depends_on_the_seed_alone(subject: Subject, fresh: Fresh, lora_spec: ModelSpec) -> None:
    """Equal seeds give equal models."""
    assert_same_bits(subject.init(lora_spec, 0), fresh.drawn(0))


@contract(source="docs/bugs.md#a13", needs=INIT)
def test_another_seed_draws_another_lora_a(subject: Subject, fresh: Fresh) -> None:
    """Different seeds give different adapters at every site."""
    others = fresh.drawn(1)
    for path, array in parts(fresh.drawn(0), "lora_a").items():
        assert_different(array, others[path])


@contract(source="docs/bugs.md#a13", needs=INIT)
def test_base_does_not_depend_on_adapters(subject: Subject, fresh: Fresh, base_spec: ModelSpec) -> None:
    """With the same seed, a fresh LoRA model has the base parameters that a fresh base model has."""
    base = subject.init(base_spec, 0)
    assert_same_bits({path: array for path, array in fresh.drawn(0).items() if not is_adapter(path)}, base)


@contract(source="openpi weight_loaders.py:54; docs/bugs.md#p1", needs=LOADED)
def test_load_adds_a_lora_b_of_zeros(subject: Subject, fresh: Fresh) -> None:
    """Where a load adds an adapter, its lora_b is zero."""
    matrices = parts(fresh.loaded(0), "lora_b")
    assert_same_bits(matrices, {path: np.zeros_like(array) for path, array in matrices.items()})


@contract(source="openpi weight_loaders.py:54; docs/bugs.md#p1, #rule-4", needs=LOADED)
def test_load_adds_the_same_adapters_for_the_same_seed(
    subject: Subject, fresh: Fresh, base_checkpoint: Checkpoint, lora_spec: ModelSpec
) -> None:
    """Two loads with the same seed add the same adapters."""
    again = subject.load(lora_spec, from_checkpoint(base_checkpoint.path), 0)["params"]
    first = fresh.loaded(0)
    assert_same_bits(*({p: x for p, x in params.items() if is_adapter(p)} for params in (again, first)))


@contract(source="openpi weight_loaders.py:54; docs/bugs.md#p1, #rule-4", needs=LOADED)
def test_load_adds_another_lora_a_for_another_seed(subject: Subject, fresh: Fresh) -> None:
    """Loads with different seeds add different adapters at every site."""
    others = fresh.loaded(1)
    for path, array in parts(fresh.loaded(0), "lora_a").items():
        assert_different(array, others[path])


@contract(
    source="arXiv:2106.09685; openpi lora.py:20 with zeros; docs/bugs.md#a2",
    needs=(*INIT, "train", "head_adapters"),
)
def test_can_learn(subject: Subject, fresh: Fresh) -> None:
    """The first optimizer step of a fresh LoRA model already changes every lora_b, so that no adapter's delta is zero
    any longer."""
    # Weight decay does not change a zero, so the change comes from the gradient.
    trained = subject.train(LORA.spec, fresh.drawn(0), [LORA.batch], LORA.options(1))["params"]
    assert [path for path in lora_b_paths(trained) if not trained[path].any()] == []


def with_rank(spec: ModelSpec, group: str, rank: float) -> ModelSpec:
    """Return the model with another rank at one group of PaliGemma's sites."""
    changed = copy.deepcopy(spec)
    changed["paligemma"]["lora"][group]["rank"] = rank  # type: ignore[index,literal-required]
    return changed


@contract(source="docs/decisions/0004", needs=("param_spec", "lora"))
@pytest.mark.parametrize("group", ["attn", "ffn"])
def test_largest_rank_is_accepted(subject: Subject, lora_spec: ModelSpec, group: str) -> None:
    """A rank of the smaller dimension of a projection (here the width, 56) is accepted."""
    params = subject.param_spec(with_rank(lora_spec, group, 56))
    ranks = {shape[-2] for path, (shape, _) in params.items() if path.endswith("lora_b")}
    assert 56 in ranks


@contract(source="docs/bugs.md#a11; docs/decisions/0004", needs=("param_spec", "lora"))
@pytest.mark.parametrize("rank", [0, -1, 2.5, 57, 1000])
@pytest.mark.parametrize("group", ["attn", "ffn"])
def test_impossible_rank_is_refused(subject: Subject, lora_spec: ModelSpec, group: str, rank: float) -> None:
    """A rank that is not a positive integer, or exceeds the smaller dimension of a projection (here the width, 56), is
    refused by its value."""
    spec = with_rank(lora_spec, group, rank)
    with refused(RANK, str(rank)):
        subject.param_spec(spec)
