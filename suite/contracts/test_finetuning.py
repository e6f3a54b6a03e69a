"""Steps of fine-tuning, of whole models and of adapters that PEFT has too: by how much they change what."""

from pathlib import Path
from typing import Any

import numpy as np

from fixtures.params import Params
from fixtures.specs import GemmaLora, ModelSpec, tiny, with_lora
from suite.contracts.training_runs import FULL, FULL_PI05, Runs, Start, from_each, served
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_same_bits
from suite.writing.cases import OPTIMIZER, training_options

NEEDS = ("train", "trainable", "loss", "float32")
LAYERS = "PaliGemma/llm/layers/"
# Without effect on any action: PaliGemma's last norm, and SigLIP's key biases, which a softmax cancels.
UNTRAINED = (
    "PaliGemma/llm/final_norm/scale",
    "PaliGemma/img/Transformer/encoderblock/MultiHeadDotProductAttention_0/key/bias",
)
# Losses of one model, from two programs.
LOSS_RTOL = 1e-4
DRAWS_RTOL = 1e-3
# A share of a step so small that the loss falls along every direction in which its gradient does.
SMALL = 0.04
PALIGEMMA_LORA: GemmaLora = {"attn": None, "ffn": {"rank": 5, "alpha": 7.0, "rslora": False}}
EXPERT_LORA: GemmaLora = {"attn": None, "ffn": {"rank": 3, "alpha": 4.0, "rslora": True}}


def with_one_head() -> ModelSpec:
    """Return a spec with adapters on everything, and one head."""
    spec = with_lora(tiny())
    for expert in (spec["paligemma"], spec["action_expert"]):
        expert["num_heads"] = 1
    return spec


# PEFT has one adapter for all heads of a projection: on the feed-forward layers, or with one head, it is openpi's.
FEED_FORWARD = Start(
    "lora_on_feed_forward", with_lora(tiny(), paligemma=PALIGEMMA_LORA, action_expert=EXPERT_LORA), lean=False
)
ONE_HEAD = Start("lora_with_one_head", with_one_head(), lean=False, needs=("peft_training",))
every_start, adapted = from_each(FULL, FULL_PI05, FEED_FORWARD, ONE_HEAD), from_each(FEED_FORWARD, ONE_HEAD)


def loss(subject: Subject, start: Start, params: Params) -> float:
    """Return the mean loss at the batch's own noise and time."""
    batch = start.batch
    return float(np.mean(subject.loss(start.spec, params, batch, batch["noise"], batch["time"], seed=0)))


def layers_that_matter(start: Start, path: str) -> list[int]:
    """Return the layers of a parameter; of PaliGemma's last layer only keys and values reach an action."""
    depth = len(start.params[path])
    return list(range(depth - 1 if path.startswith(LAYERS) and "_1" not in path else depth))


@contract(source="openpi train.py:152; docs/bugs.md#b1, #b3", needs=NEEDS)
@adapted
def test_frozen_parameters_keep_every_bit(subject: Subject, runs: Runs, start: Start) -> None:
    """In float32, steps of a LoRA model leave every parameter that is not trainable as it was, bit for bit."""
    trainable, trained = set(subject.trainable(start.spec)), runs(start, 3)["params"]
    assert trainable
    frozen = {path: x for path, x in start.params.items() if path not in trainable}
    assert_same_bits({path: trained[path] for path in frozen}, frozen)


@contract(source="docs/bugs.md#b5, #a17; arXiv:2106.09685 section 4.1", needs=NEEDS)
@adapted
def test_every_layer_of_an_adapter_learns(subject: Subject, runs: Runs, start: Start) -> None:
    """Steps of a LoRA model change every layer of every adapter that an action depends on."""
    trained, unchanged = runs(start, 3)["params"], []
    for path in (path for path in start.params if "lora_" in path):
        changed = trained[path] != start.params[path]
        unchanged += [(path, layer) for layer in layers_that_matter(start, path) if not changed[layer].any()]
    assert unchanged == []


@contract(source="openpi train.py:141: the loss of training is the model's; docs/bugs.md#a4, #a16", needs=NEEDS)
@adapted
def test_first_loss_is_that_of_the_model(subject: Subject, runs: Runs, start: Start) -> None:
    """The first loss of a LoRA model's run is the mean of the losses that the model has outside of training."""
    assert_close(runs(start, 3)["losses"][0], loss(subject, start, start.params), rtol=LOSS_RTOL)


@contract(source="arXiv:1412.6980 section 2.1; openpi optimizer.py:17", needs=NEEDS)
@every_start
def test_first_step_has_the_size_of_the_learning_rate(subject: Subject, runs: Runs, start: Start) -> None:
    """Adam's first step moves every trainable parameter by the learning rate of the schedule's first step."""
    schedule = OPTIMIZER["schedule"]
    first_lr = schedule["peak_lr"] / (schedule["warmup_steps"] + 1)
    trained = runs(start, 1)["params"]
    for path in set(subject.trainable(start.spec)) - set(UNTRAINED):
        moved = np.abs(trained[path].astype(np.float64) - start.params[path]).max()
        assert_close(moved, first_lr, rtol=0.01, name=path)


@contract(source="arXiv:1412.6980; docs/bugs.md#a3", needs=NEEDS)
@every_start
def test_each_parameter_moves_downhill(subject: Subject, runs: Runs, start: Start) -> None:
    """A small part of the first step's change of each parameter alone lowers the loss at the step's noise and times."""
    params, trained = start.params, runs(start, 1)["params"]
    before, uphill = loss(subject, start, params), dict[str, float]()
    for path in set(subject.trainable(start.spec)) - set(UNTRAINED):
        moved = (params[path] + SMALL * (trained[path] - params[path])).astype(np.float32)
        change = loss(subject, start, params | {path: moved}) - before
        uphill |= {path: change} if change >= 0 else {}
    assert uphill == {}


@contract(source="openpi train.py:155: the seed decides; docs/bugs.md#a13, #e1", needs=NEEDS)
@every_start
def test_same_run_ends_the_same(subject: Subject, runs: Runs, start: Start) -> None:
    """A second run from the same numbers has the same losses and ends on the same bits."""
    again = subject.train(start.spec, start.params, [start.batch] * 3, start.options(3))
    assert again["losses"] == runs(start, 3)["losses"]
    assert_same_bits(again["params"], runs(start, 3)["params"])


@contract(source="openpi train.py:155, rng folded with the step", needs=NEEDS)
@adapted
def test_draws_depend_on_step_and_seed(subject: Subject, start: Start) -> None:
    """Noise and times that a run draws are others in each step and for each seed, and the same for the same seed."""

    def run(seed: int, steps: int = 1, params: Params | None = None) -> dict[str, Any]:
        options, start_params = training_options(seed=seed), params or start.params
        found: dict[str, Any] = subject.train(start.spec, start_params, [start.batch] * steps, options)
        return found

    whole, first, other_seed = run(0, steps=2), run(0), run(1)
    assert first["losses"] == whole["losses"][:1]
    assert abs(other_seed["losses"][0] / first["losses"][0] - 1) > DRAWS_RTOL
    # From the same parameters, with the first step's draws.
    [again] = run(0, params=first["params"])["losses"]
    assert abs(again / whole["losses"][1] - 1) > DRAWS_RTOL


@contract(source="docs/bugs.md#h6; openpi train_pytorch.py:405", needs=NEEDS)
@every_start
def test_arguments_are_left_alone(subject: Subject, start: Start) -> None:
    """A training changes neither the given parameters nor the batch."""
    params, batch = start.params, start.batch
    subject.train(start.spec, params, [batch], start.options(1))
    assert_same_bits(params, start.params)
    assert_same_bits(batch, start.batch)


@contract(source="openpi checkpoints.py:142; docs/bugs.md#rule-4", needs=(*NEEDS, "load_for_inference"))
@adapted
def test_serves_the_adapters_it_trained(subject: Subject, runs: Runs, tmp_path: Path, start: Start) -> None:
    """What a LoRA run saves is served with base and adapters as the run ended on, bit for bit."""
    trained = runs.saved(start, tmp_path)
    assert_same_bits(subject.load_for_inference(start.spec, served(tmp_path)), trained["params"])
