"""The parameter tree that a model has: names, shapes and dtypes are the format of its checkpoints."""

import math

import pytest

from fixtures.golden_cases import FullSizeModel, full_size
from fixtures.specs import ModelSpec
from suite.asserts import assert_same_paths
from suite.cases import is_adapter
from suite.registry import contract
from suite.subjects.protocol import Subject

FULL_SIZE = full_size()
real_sizes = pytest.mark.parametrize("model", FULL_SIZE.values(), ids=[name.replace(" ", "_") for name in FULL_SIZE])


@contract(source="openpi declares them: fixtures/golden/full_size.json; bugs A8", needs=("param_spec",))
@real_sizes
def test_equals_openpi_at_real_size(subject: Subject, model: FullSizeModel) -> None:
    """A real-size model has openpi's parameters: path, shape and dtype of every one."""
    found = {path: (tuple(shape), dtype) for path, (shape, dtype) in subject.param_spec(model.spec).items()}
    assert found == model.parameters
    assert sum(math.prod(shape) for shape, _ in found.values()) == model.total


@contract(
    source="openpi pi0_config.py:79, full_size.json; bugs B1, B2, B5",
    needs=("trainable", "param_spec"),
)
@real_sizes
def test_trainable_set_equals_openpi_at_real_size(subject: Subject, model: FullSizeModel) -> None:
    """Fine-tuning a real-size model changes exactly the parameters that it changes in openpi."""
    trainable = set(subject.trainable(model.spec))
    assert_same_paths(trainable, set(model.trainable))
    spec = subject.param_spec(model.spec)
    assert sum(math.prod(spec[path][0]) for path in trainable) == model.total_trainable


@contract(source="arXiv:2106.09685; bugs A8", needs=("param_spec", "lora"))
def test_lora_adds_adapters_and_changes_nothing(subject: Subject, base_spec: ModelSpec, lora_spec: ModelSpec) -> None:
    """LoRA adds lora_a and lora_b at ten sites an expert pair and leaves every other parameter as it is."""
    base, adapted = subject.param_spec(base_spec), subject.param_spec(lora_spec)
    assert {path: leaf for path, leaf in adapted.items() if not is_adapter(path)} == base
    assert len(adapted) == len(base) + 20
