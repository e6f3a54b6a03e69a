"""The forward pass: what it depends on and what it does not, and that loss and sampling use the same model."""

import dataclasses
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fixtures import observations
from fixtures.observations import CAMERAS
from fixtures.params import Params
from fixtures.specs import ModelSpec
from suite.contracts.checkpoints import Checkpoint
from suite.contracts.predicted_velocity import predicted_velocity
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_different, assert_same_bits
from suite.writing.cases import is_adapter, training_options

# For sums in another order: 30 times the change that float32 rounding (1.2e-7) causes in the losses of the tiny models.
ORDER_RTOL = 3e-5
# For four velocities recovered from losses, each as precise as nine losses of order one.
EULER_ATOL = 1e-4
EULER_STEPS = 4
# bfloat16 has eight significant bits, so a number is off by up to 0.4 %. The reference's mean difference of losses over
# their mean was 0.38 % and 0.36 % when recorded; the bound adds half of that.
BFLOAT16_RTOL = 0.006
# As long as a real prompt with three real images: at such positions, angles computed in bfloat16 are off by a radian.
LONG_PROMPT = 400
# The same for the parameters of one module in bfloat16 in a float32 model: recorded values plus half.
BFLOAT16_MODULES = {
    "/img/": 6.1e-4,
    "/embedder/": 2.5e-4,
    "/attn/": 9.2e-4,
    "/mlp": 1.3e-3,
    "norm": 3.2e-4,
    "action_": 1.4e-3,
}
# A tenth of the smallest effect of multiplying a parameter by 1.5, and a thousand times the effect of rounding.
MATTERS_RTOL = 1e-3
LAYERS = "PaliGemma/llm/layers/"
UNREAD_IN_THE_LAST_LAYER = (
    f"{LAYERS}attn/q_einsum/",
    f"{LAYERS}attn/attn_vec_einsum/",
    f"{LAYERS}mlp/",
    f"{LAYERS}pre_ffw_norm/",
)
SIGLIP_KEY = "PaliGemma/img/Transformer/encoderblock/MultiHeadDotProductAttention_0/key"
DROPOUT = 0.1


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation that computes something of a batch; a case needs no more than that."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def needs(self) -> tuple[str, ...]:
        """The capability that a case needs."""
        return (self.name,)

    def __call__(self, subject: Subject, spec: ModelSpec, params: Params, batch: Params) -> np.ndarray:
        """Return the losses or the sampled actions of a batch."""
        if self.name == "loss":
            return loss(subject, spec, params, batch)
        return np.asarray(subject.sample_actions(spec, params, batch, batch["noise"], num_steps=EULER_STEPS))


each_operation = pytest.mark.parametrize("compute", [Operation("loss"), Operation("sample_actions")], ids=str)


@contract(source="openpi pi0.py:19, make_attn_mask", needs=())
@each_operation
def test_what_is_masked_does_not_matter(
    subject: Subject, base_checkpoint: Checkpoint, batch: Params, compute: Operation
) -> None:
    """Changing an absent camera's image or a prompt's padding changes no bit of a loss or a sampled action; changing a
    present camera's image or the prompt's tokens does."""
    rng, spec, params = np.random.default_rng(1), base_checkpoint.spec, base_checkpoint.params
    camera = f"image/{CAMERAS[-1]}"
    hidden = {name: batch[name].copy() for name in (camera, "tokenized_prompt")}
    absent, padding = ~batch[f"image_mask/{CAMERAS[-1]}"], ~batch["tokenized_prompt_mask"]
    hidden[camera][absent] = rng.uniform(-1, 1, hidden[camera][absent].shape)
    hidden["tokenized_prompt"][padding] = (batch["tokenized_prompt"][padding] + 1) % 500
    seen = [{camera: batch[camera][::-1]}, {"tokenized_prompt": (batch["tokenized_prompt"] + 1) % 500}]
    expected = compute(subject, spec, params, batch)
    assert_same_bits({"it": compute(subject, spec, params, batch | hidden)}, {"it": expected})
    for change in seen:
        assert_different(compute(subject, spec, params, batch | change), expected)


@contract(source="openpi pi0.py:108, positions by cumulative sum", needs=("float32",))
@each_operation
def test_padding_may_lie_anywhere(
    subject: Subject, base_checkpoint: Checkpoint, batch: Params, compute: Operation
) -> None:
    """Only real tokens count: a prompt with its padding at the front or in the middle is the same prompt."""
    spec, params = base_checkpoint.spec, base_checkpoint.params
    expected = compute(subject, spec, params, batch)
    # The second prompt has five tokens, followed by two of padding.
    for order in ([5, 6, 0, 1, 2, 3, 4], [0, 5, 1, 6, 2, 3, 4]):
        moved = {name: batch[name].copy() for name in ("tokenized_prompt", "tokenized_prompt_mask")}
        for array in moved.values():
            array[1] = array[1][order]
        assert_near(compute(subject, spec, params, batch | moved), expected)


@contract(source="openpi model.py, max_token_len; docs/bugs.md#c10", needs=("loss", "float32"))
def test_longer_prompt_with_padding_is_the_same(subject: Subject, base_checkpoint: Checkpoint, batch: Params) -> None:
    """A model with a longer maximum prompt computes the same from the same prompts, whatever the padding: for prompts
    from one token up to the shorter maximum."""
    params = base_checkpoint.params
    spec: ModelSpec = {**base_checkpoint.spec, "max_token_len": 12}
    for lengths in ((7, 5), (1, 7)):
        masks = np.arange(7) < np.array(lengths)[:, None]
        short = batch | {"tokenized_prompt_mask": masks}
        fill = batch["tokenized_prompt"][:, :5][::-1]
        long = batch | {
            "tokenized_prompt": np.concatenate([batch["tokenized_prompt"], fill], axis=1),
            "tokenized_prompt_mask": np.pad(masks, ((0, 0), (0, 5))),
        }
        expected = loss(subject, base_checkpoint.spec, params, short)
        assert_close(loss(subject, spec, params, long), expected, rtol=ORDER_RTOL, name=f"lengths {lengths}")


@contract(source="openpi pi0.py:189", needs=("float32",))
@each_operation
def test_order_of_the_batch_does_not_matter(
    subject: Subject, base_checkpoint: Checkpoint, batch: Params, compute: Operation
) -> None:
    """Reordering the samples of a batch reorders their losses and actions."""
    spec, params = base_checkpoint.spec, base_checkpoint.params
    swapped = compute(subject, spec, params, {name: array[::-1] for name, array in batch.items()})
    assert_near(swapped[::-1], compute(subject, spec, params, batch))


@contract(source="openpi pi0.py:189", needs=("loss", "float32"))
def test_sample_is_computed_alone(subject: Subject, base_checkpoint: Checkpoint, batch: Params) -> None:
    """A sample has the same loss alone as in a batch: no sample sees another."""
    spec, params = base_checkpoint.spec, base_checkpoint.params
    together = loss(subject, spec, params, batch)
    for n in range(len(together)):
        alone = loss(subject, spec, params, {name: array[n : n + 1] for name, array in batch.items()})
        assert_close(alone, together[n : n + 1], rtol=ORDER_RTOL)


@contract(source="arXiv:2410.24164; openpi pi0.py:217", needs=("loss", "sample_actions", "float32"))
def test_sampling_follows_the_velocity_of_the_loss(
    subject: Subject, base_checkpoint: Checkpoint, batch: Params
) -> None:
    """Sampling takes equal Euler steps from noise at time 1 to actions at time 0 along the velocity that the loss
    uses: computing with a cached prefix equals the pass over all tokens."""
    spec, params = base_checkpoint.spec, base_checkpoint.params
    x = batch["noise"].astype(np.float64)
    for step in range(EULER_STEPS):
        x = x - predicted_velocity(subject, spec, params, batch, x, 1 - step / EULER_STEPS) / EULER_STEPS
    actions = subject.sample_actions(spec, params, batch, batch["noise"], num_steps=EULER_STEPS)
    assert_close(actions, x, atol=EULER_ATOL)


@contract(source="docs/bugs.md#a8, #a17, #rule-1", needs=("loss", "float32"))
def test_every_parameter_matters(subject: Subject, base_checkpoint: Checkpoint, batch: Params) -> None:
    """Every parameter in every layer affects the loss, except those that nothing reads: no action depends on PaliGemma
    beyond its last keys and values, and a softmax cancels SigLIP's key biases."""
    spec, params = base_checkpoint.spec, base_checkpoint.params
    unread = unread_in_the_last_layer(spec, params)
    unread |= {(f"{SIGLIP_KEY}/bias", layer) for layer in range(len(params[f"{SIGLIP_KEY}/bias"]))}
    expected = unread | {("PaliGemma/llm/final_norm/scale", ...)}
    assert without_effect(subject, base_checkpoint, batch, params) == expected


@contract(source="docs/bugs.md#a3, #a17, #rule-1", needs=("loss", "lora", "float32"))
def test_every_adapter_matters(subject: Subject, lora_checkpoint: Checkpoint, batch: Params) -> None:
    """Both matrices of every adapter affect the loss in every layer, except where no action depends on PaliGemma."""
    adapters = {path: x for path, x in lora_checkpoint.params.items() if is_adapter(path)}
    expected = unread_in_the_last_layer(lora_checkpoint.spec, adapters)
    assert without_effect(subject, lora_checkpoint, batch, adapters) == expected


def unread_in_the_last_layer(spec: ModelSpec, params: Params) -> set[tuple[str, Any]]:
    """Return the paths of PaliGemma's parameters beyond the keys and values of its last layer, with that layer."""
    last = spec["paligemma"]["depth"] - 1
    return {(path, last) for path in params if path.startswith(UNREAD_IN_THE_LAST_LAYER)}


def without_effect(subject: Subject, checkpoint: Checkpoint, batch: Params, some: Params) -> set[tuple[str, Any]]:
    """Return which layers of some parameters (``...`` where there are no layers) do not affect the loss."""
    spec, params, found = checkpoint.spec, checkpoint.params, set()
    expected = loss(subject, spec, params, batch)
    for path, array in some.items():
        stacked = "/layers/" in path or "/encoderblock/" in path
        for layer in range(len(array)) if stacked else [...]:
            changed = array.copy()
            changed[layer] *= 1.5
            actual = loss(subject, spec, params | {path: changed}, batch)
            if np.abs(actual / expected - 1).max() < MATTERS_RTOL:
                found.add((path, layer))
    return found


@contract(source="openpi policy_config.py:57; docs/bugs.md#b7", needs=("loss", "float32"))
def test_bfloat16_is_near_float32(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """A model that computes in bfloat16, from float32 or bfloat16 parameters, has float32's losses within a recorded
    bound, even for a long prompt."""
    spec: ModelSpec = {**base_checkpoint.spec, "max_token_len": LONG_PROMPT}
    narrow: ModelSpec = {**spec, "dtype": "bfloat16"}
    params, batch = base_checkpoint.params, observations.batch(spec)
    expected = loss(subject, spec, params, batch)
    stored = {path: array.astype(ml_dtypes.bfloat16) for path, array in params.items()}
    for weights in (params, stored):
        actual = loss(subject, narrow, weights, batch)
        assert_different(actual, expected)
        assert_close(np.abs(actual - expected).mean() / expected.mean(), 0.0, atol=BFLOAT16_RTOL)


@contract(source="openpi policy_config.py:57; docs/bugs.md#b7", needs=("restore", "loss", "float32"))
def test_bfloat16_parameters_are_near_float32(subject: Subject, base_checkpoint: Checkpoint, batch: Params) -> None:
    """Restoring the parameters of one module in bfloat16, including norm scales and action projections, changes the
    losses by no more than a bound recorded for the module."""
    spec, params = base_checkpoint.spec, base_checkpoint.params
    expected, narrow = loss(subject, spec, params, batch), subject.restore(base_checkpoint.path, "bfloat16")
    for module, bound in BFLOAT16_MODULES.items():
        rounded = {path: x.astype(np.float32) for path, x in narrow.items() if module in path}
        actual = loss(subject, spec, params | rounded, batch)
        assert_different(actual, expected)
        assert_close(np.abs(actual - expected).mean() / expected.mean(), 0.0, atol=bound, name=module)


@contract(source="openpi gemma.py:359; docs/bugs.md#a16", needs=("train", "loss", "lora", "dropout"))
def test_dropout_trains(subject: Subject, lora_checkpoint: Checkpoint, batch: Params) -> None:
    """A LoRA model trains with dropout: its losses are finite, depend on the seed, and differ from those without it."""
    spec, params = with_dropout(lora_checkpoint.spec), lora_checkpoint.params
    draws = {"noise": batch["noise"][None], "time": batch["time"][None]}
    runs = [subject.train(spec, params, [batch], training_options(seed=seed, **draws)) for seed in (0, 0, 1)]
    first, again, other = (run["losses"] for run in runs)
    whole = loss(subject, lora_checkpoint.spec, params, batch).mean()
    assert np.isfinite([*first, *other]).all()
    assert first == again
    assert_different(first, other)
    assert max(abs(first[0] / whole - 1), abs(other[0] / whole - 1)) > MATTERS_RTOL


@contract(source="openpi gemma.py:289, deterministic", needs=("dropout",))
@each_operation
def test_dropout_is_for_training_only(
    subject: Subject, base_checkpoint: Checkpoint, batch: Params, compute: Operation
) -> None:
    """Outside of training nothing is dropped: losses and sampled actions equal those of a model without dropout."""
    spec, params = base_checkpoint.spec, base_checkpoint.params
    expected = {"it": compute(subject, spec, params, batch)}
    assert_same_bits({"it": compute(subject, with_dropout(spec), params, batch)}, expected)


def with_dropout(spec: ModelSpec) -> ModelSpec:
    """Return the same model with dropout of a tenth during training."""
    return {**spec, "dropout": DROPOUT}


def loss(subject: Subject, spec: ModelSpec, params: Params, batch: Params) -> np.ndarray:
    """Return the loss at the batch's own noise and time."""
    return np.asarray(subject.loss(spec, params, batch, batch["noise"], batch["time"], seed=0))


def assert_near(actual: np.ndarray, expected: np.ndarray) -> None:
    """Assert that outputs agree up to the order of sums."""
    __tracebackhide__ = True
    assert_close(actual, expected, rtol=ORDER_RTOL, atol=ORDER_RTOL)
