"""A model's parameter tree: its names, shapes and dtypes are the format of its checkpoints."""

import math

import numpy as np
import pytest

from fixtures.golden_cases import FullSizeModel, full_size
from fixtures.params import Array, Params
from fixtures.specs import Family, GemmaLora, LoraSpec, ModelSpec, tiny, with_lora
from fixtures.writers import openpi_layout
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_paths
from suite.writing.cases import is_adapter

LOW: LoraSpec = {"rank": 2, "alpha": 3.0, "rslora": False}
HIGH: LoraSpec = {"rank": 11, "alpha": 3.0, "rslora": True}
MIDDLE: LoraSpec = {"rank": 5, "alpha": 3.0, "rslora": False}
# The adapters of PaliGemma, then those of the action expert.
ADAPTERS: dict[str, tuple[GemmaLora | None, GemmaLora | None]] = {
    "attention_above_feed_forward": ({"attn": HIGH, "ffn": LOW}, {"attn": MIDDLE, "ffn": LOW}),
    "feed_forward_above_attention": ({"attn": LOW, "ffn": HIGH}, {"attn": LOW, "ffn": MIDDLE}),
    "attention_only": ({"attn": LOW, "ffn": None}, {"attn": HIGH, "ffn": None}),
    "feed_forward_only": ({"attn": None, "ffn": LOW}, {"attn": None, "ffn": HIGH}),
    "paligemma_only": ({"attn": LOW, "ffn": HIGH}, None),
    "action_expert_only": (None, {"attn": LOW, "ffn": HIGH}),
}
# Input axes of weights where they are not just the second-to-last: SigLIP's attention, and attention's output.
FAN_IN_AXES = {"query": (-3,), "key": (-3,), "value": (-3,), "out": (-3, -2), "attn_vec_einsum": (-3, -2)}
# SigLIP's encoder is drawn by fan-in and fan-out together (Xavier); embeddings are not projections.
NOT_BY_FAN_IN = ("/Transformer/", "embedd", "head/", "Dense_0/", "lora_")

FULL_SIZE = full_size()
real_sizes = pytest.mark.parametrize("model", FULL_SIZE.values(), ids=[name.replace(" ", "_") for name in FULL_SIZE])


@contract(source="openpi declares them: fixtures/golden/full_size.json; docs/bugs.md#a8", needs=("param_spec",))
@real_sizes
def test_equals_openpi_at_real_size(subject: Subject, model: FullSizeModel) -> None:
    """A real-size model has openpi's parameters: every path, shape and dtype."""
    params = {path: (tuple(shape), dtype) for path, (shape, dtype) in subject.param_spec(model.spec).items()}
    assert params == model.parameters
    assert sum(math.prod(shape) for shape, _ in params.values()) == model.total


@contract(
    source="openpi pi0_config.py:79, full_size.json; docs/bugs.md#b1, #b2, #b5",
    needs=("trainable", "param_spec"),
)
@real_sizes
def test_trainable_set_equals_openpi_at_real_size(subject: Subject, model: FullSizeModel) -> None:
    """Fine-tuning a real-size model trains exactly the parameters that openpi trains."""
    trainable = set(subject.trainable(model.spec))
    assert_same_paths(trainable, set(model.trainable))
    spec = subject.param_spec(model.spec)
    assert sum(math.prod(spec[path][0]) for path in trainable) == model.total_trainable


@contract(source="arXiv:2106.09685; docs/bugs.md#a8", needs=("param_spec", "lora"))
def test_lora_adds_adapters_and_changes_nothing(subject: Subject, base_spec: ModelSpec, lora_spec: ModelSpec) -> None:
    """LoRA adds lora_a and lora_b at ten sites across both experts and leaves every other parameter unchanged."""
    base, adapted = subject.param_spec(base_spec), subject.param_spec(lora_spec)
    assert {path: leaf for path, leaf in adapted.items() if not is_adapter(path)} == base
    assert len(adapted) == len(base) + 20


# With two key/value heads a pi0, with as many as query heads a pi05.
SIZES: tuple[tuple[Family, int], ...] = (("pi0", 2), ("pi05", 6))
ADAPTED = {
    f"{name}-{num_kv_heads}": with_lora(
        tiny(family, num_kv_heads=num_kv_heads), paligemma=paligemma, action_expert=action_expert
    )
    for family, num_kv_heads in SIZES
    for name, (paligemma, action_expert) in ADAPTERS.items()
}


@contract(source="openpi PR #274, 4d389c3; docs/bugs.md#a8, #a9", needs=("param_spec", "lora"))
@pytest.mark.parametrize("spec", ADAPTED.values(), ids=ADAPTED)
def test_has_the_configured_rank_at_every_site(subject: Subject, spec: ModelSpec) -> None:
    """Adapters are exactly where the config says, each with the rank of its own expert and group."""
    shapes = {path: tuple(shape) for path, (shape, _) in subject.param_spec(spec).items()}
    assert shapes == openpi_layout.shapes(spec)


@contract(source="openpi pi0_config.py; docs/bugs.md#b7", needs=("param_spec",))
def test_compute_dtype_changes_no_parameter(subject: Subject) -> None:
    """A model's compute dtype changes neither the shape nor the dtype of any parameter."""
    assert subject.param_spec(tiny(dtype="bfloat16")) == subject.param_spec(tiny())


@contract(source="openpi declares them: fixtures/golden/full_size.json; docs/bugs.md#b7", needs=("param_spec",))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_parameter_is_float32(subject: Subject, dtype: str) -> None:
    """Every parameter is float32, whatever the model computes in."""
    assert [path for path, (_, found) in subject.param_spec(tiny(dtype=dtype)).items() if found != "float32"] == []


@contract(source="arXiv:1502.01852; openpi gemma.py:242 against gemma_fast.py:161; docs/bugs.md#a14", needs=("init",))
def test_fresh_weights_spread_by_their_fan_in(subject: Subject, base_spec: ModelSpec) -> None:
    """A fresh projection has a standard deviation of one over the square root of its number of inputs, which for
    attention's output is heads x head_dim."""
    for path, array in fresh_projections(subject, base_spec).items():
        expected = spread(path, array)
        # Five standard errors; a truncated normal's sample standard deviation varies no more than a normal's.
        assert abs(array.std() - expected) <= 5 * expected / np.sqrt(2 * array.size), path


@contract(source="arXiv:1502.01852; docs/bugs.md#a14", needs=("init",))
def test_fresh_weights_have_mean_zero(subject: Subject, base_spec: ModelSpec) -> None:
    """A fresh projection has mean zero, within five standard errors."""
    for path, array in fresh_projections(subject, base_spec).items():
        assert abs(array.mean()) <= 5 * spread(path, array) / np.sqrt(array.size), path


def fresh_projections(subject: Subject, spec: ModelSpec) -> Params:
    """Return the fresh projections that are drawn by their number of inputs."""
    params = subject.init(spec, 0)
    kernels = [path for path in openpi_layout.shapes(spec) if not any(part in path for part in NOT_BY_FAN_IN)]
    kernels = [path for path in kernels if path.endswith(("kernel", "/w", "gating_einsum", "linear"))]
    found = {path: params[path] for path in kernels if path in params}
    # A language model alone has five of them.
    assert len(found) >= 5
    return found


def spread(path: str, array: Array) -> float:
    """Return the standard deviation of a fresh projection: one over the square root of its number of inputs."""
    owner = path.split("/")[-2].removesuffix("_1")
    inputs: float = math.prod(array.shape[axis] for axis in FAN_IN_AXES.get(owner, (-2,)))
    return inputs**-0.5
