"""Fine-tuning: what changes, what stays frozen, and that interruptions make no difference."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fixtures import content
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny
from suite.contracts.checkpoints import Checkpoint
from suite.contracts.process_limits import full_disk
from suite.session.registry import contract
from suite.subjects.process.elsewhere import Elsewhere
from suite.subjects.protocol import Subject, Unsupported
from suite.writing.asserts import assert_close, assert_same_bits, assert_same_paths, refused
from suite.writing.cases import LEAN, OPTIMIZER, digests, from_checkpoint, is_adapter, training_options

PLACEMENTS = {f"lora_on_{placement}": tiny(lora=placement) for placement in ("none", "both", "paligemma")}
LLM = "PaliGemma/llm/"
# Far above rounding, far below the effect of another time on a loss.
DRAWS_RTOL = 1e-3


def damage(step: Path, *, params: bool) -> None:
    """Truncate the largest file of a step's `params`, or of its other items, to zero bytes."""
    items = [item for item in step.iterdir() if item.is_dir() and (item.name == "params") == params]
    files = [file for item in items for file in item.rglob("*") if file.is_file()]
    max(files, key=lambda file: file.stat().st_size).write_bytes(b"")


def unless_refused(call: Callable[[], dict[str, Any]], mention: str) -> dict[str, Any] | None:
    """Return the result of a call, or None if it raises an error whose text contains ``mention``."""
    try:
        return call()
    except Unsupported:
        raise
    except Exception as error:  # noqa: BLE001 - any error counts as a refusal; its text is checked below
        text = str(error)
    assert mention in text
    return None


@contract(
    source="openpi train.py:106, train.py:152; docs/bugs.md#b3",
    needs=("load", "openpi", "train", "trainable", "lora"),
)
def test_changes_only_trainables(
    subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec, batch: Params
) -> None:
    """Steps of a LoRA model change all adapters and only trainable parameters; frozen ones are rounded once, to the
    requested bfloat16, and never touched again."""
    params = subject.load(lora_spec, from_checkpoint(base_checkpoint.path), seed=0)["params"]
    trained = subject.train(lora_spec, params, [batch] * 3, training_options(**LEAN))["params"]
    trainable = set(subject.trainable(lora_spec))
    frozen = {path: x.astype(ml_dtypes.bfloat16) for path, x in params.items() if path not in trainable}
    assert_same_bits({path: trained[path] for path in frozen}, frozen)
    changed = {path for path in trainable if (trained[path] != params[path]).any()}
    assert changed >= {path for path in params if is_adapter(path)}


@contract(
    source="openpi pi0_config.py:79; docs/bugs.md#b1, #b2, #b3, #b5, #b6", needs=("trainable", "param_spec", "lora")
)
@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_adapters_freeze_their_own_expert(subject: Subject, family: str) -> None:
    """Adapters on an expert freeze that expert's own weights, including adaRMS in pi05, and nothing else; without
    adapters, nothing is frozen."""
    frozen: dict[str, set[str]] = {}
    for placement in ("none", "both", "paligemma", "action_expert"):
        spec = tiny(family, lora=placement)  # type: ignore[arg-type]
        frozen[placement] = set(subject.param_spec(spec)) - set(subject.trainable(spec))
    paths = set(subject.param_spec(tiny(family, lora="both")))  # type: ignore[arg-type]
    assert_same_paths(frozen["none"], set())
    assert_same_paths(frozen["both"], {path for path in paths if path.startswith(LLM) and not is_adapter(path)})
    assert_same_paths(frozen["action_expert"], frozen["both"] - frozen["paligemma"])
    names = [path.removeprefix(LLM).split("/") for path in sorted(frozen["action_expert"])]
    assert names
    assert all(any(name.endswith("_1") for name in keys) for keys in names)


@contract(source="openpi train.py:110; docs/bugs.md#b2, #b3", needs=("train", "trainable", "counts_bytes"))
@pytest.mark.parametrize("spec", PLACEMENTS.values(), ids=PLACEMENTS)
def test_optimizer_keeps_nothing_of_frozen_parameters(subject: Subject, spec: ModelSpec) -> None:
    """AdamW keeps two float32 moments of every trainable parameter and nothing of a frozen one."""
    params = content.params(spec)
    kept = subject.train(spec, params, [], training_options(**LEAN))["optimizer_bytes"]
    moments = 2 * sum(params[path].size * 4 for path in subject.trainable(spec))
    # In addition to the moments there are counters.
    assert moments <= kept <= moments + 64


@contract(source="openpi train.py:169; docs/bugs.md#b4", needs=("train", "trainable", "moving_average", "lora"))
def test_moving_average_leaves_frozen_alone(subject: Subject, lora_checkpoint: Checkpoint, batch: Params) -> None:
    """A moving average keeps frozen parameters bit for bit, even in bfloat16, and follows trained ones."""
    options = training_options(**LEAN)
    result = subject.train(lora_checkpoint.spec, lora_checkpoint.params, [batch] * 3, options)
    trained, averaged, trainable = (
        result["params"],
        result["averaged"],
        set(subject.trainable(lora_checkpoint.spec)),
    )
    frozen = {path: array for path, array in trained.items() if path not in trainable}
    assert_same_bits({path: averaged[path] for path in frozen}, frozen)
    lagging = {path for path in trained if (averaged[path] != trained[path]).any()}
    assert_same_paths(lagging, {p for p in trainable if (trained[p] != lora_checkpoint.params[p]).any()})


@contract(source="openpi train.py:169; docs/bugs.md#b4", needs=("train", "trainable", "moving_average", "lora"))
def test_moving_average_weighs_the_past_by_its_decay(
    subject: Subject, lora_checkpoint: Checkpoint, batch: Params
) -> None:
    """Before the first step, the average equals the parameters bit for bit; after it, the step's change has the weight
    one minus decay."""
    spec, options = lora_checkpoint.spec, training_options(**LEAN)
    start, step = (subject.train(spec, lora_checkpoint.params, batches, options) for batches in ([], [batch]))
    assert_same_bits(start["averaged"], start["params"])
    for path in subject.trainable(spec):
        followed = step["averaged"][path] - start["params"][path]
        changed = step["params"][path] - start["params"][path]
        assert_close(followed, (1 - options["ema_decay"]) * changed, atol=1e-6, name=path)


@contract(source="jax: a new shape, dtype or placement is a new program", needs=("train", "counts_compilations"))
def test_later_steps_compile_nothing(subject: Subject, lora_checkpoint: Checkpoint, batch: Params) -> None:
    """A training run compiles its step at most once: each step returns exactly what the next one accepts."""
    options = training_options(**LEAN)
    compiled = subject.train(lora_checkpoint.spec, lora_checkpoint.params, [batch] * 3, options)["compiled"]
    assert compiled[0] <= 1
    assert compiled[1:] == [0, 0]


@contract(source="arXiv:2410.24164, flow matching", needs=("load", "openpi", "train", "lora"))
def test_learns_one_batch(subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec, batch: Params) -> None:
    """Fine-tuning a LoRA model repeatedly on one batch reduces its loss by more than a third."""
    params = subject.load(lora_spec, from_checkpoint(base_checkpoint.path), seed=0)["params"]
    losses = subject.train(lora_spec, params, [batch] * 80, training_options(**LEAN))["losses"]
    # Noise and time are drawn anew in every step, so single losses vary.
    assert np.mean(losses[-10:]) < 2 / 3 * np.mean(losses[:3])


@contract(source="openpi train.py:155, rng folded with the step", needs=("train", "lora"))
def test_each_step_draws_anew(subject: Subject, lora_checkpoint: Checkpoint, batch: Params) -> None:
    """Steps at a learning rate of zero, which change nothing, have different losses: each draws its noise and times."""
    idle = OPTIMIZER | {"schedule": OPTIMIZER["schedule"] | {"peak_lr": 0.0, "decay_lr": 0.0}}
    options = training_options(**LEAN, optimizer=idle)
    trained = subject.train(lora_checkpoint.spec, lora_checkpoint.params, [batch] * 3, options)
    first, *others = trained["losses"]
    assert len(set(trained["losses"])) == 3
    assert min(abs(other / first - 1) for other in others) > DRAWS_RTOL


@contract(
    source="openpi checkpoints.py:101; docs/bugs.md#e1, #p5",
    needs=("train", "resume", "moving_average", "lora"),
)
def test_resumed_equals_uninterrupted(
    subject: Subject, lora_checkpoint: Checkpoint, batch: Params, tmp_path: Path
) -> None:
    """Steps with a save and a resume in between end on the same bits as uninterrupted ones."""
    spec, params, options = lora_checkpoint.spec, lora_checkpoint.params, training_options(**LEAN)
    uninterrupted = subject.train(spec, params, [batch] * 3, options)
    before = subject.train(spec, params, [batch], options, folder=str(tmp_path))
    after = subject.resume(spec, [batch] * 3, options, folder=str(tmp_path))
    assert before["losses"] + after["losses"] == uninterrupted["losses"]
    for which in ("params", "averaged"):
        assert_same_bits(after[which], uninterrupted[which])


@contract(
    source="openpi checkpoints.py:142", needs=("train", "restore", "load_for_inference", "moving_average", "lora")
)
def test_saves_what_is_served(subject: Subject, lora_checkpoint: Checkpoint, batch: Params, tmp_path: Path) -> None:
    """A run's `<step>/params` is a checkpoint of the averaged parameters that can be served directly."""
    spec, options = lora_checkpoint.spec, training_options(**LEAN)
    trained = subject.train(spec, lora_checkpoint.params, [batch], options, folder=str(tmp_path))
    (served,) = tmp_path.glob("*/params")
    assert_same_bits(subject.restore(str(served), None), trained["averaged"])
    assert_same_bits(subject.load_for_inference(spec, str(served)), trained["averaged"])


@contract(source="docs/bugs.md#e1", needs=("train", "resume", "moving_average", "lora"))
def test_resuming_a_finished_run_changes_nothing(
    subject: Subject, lora_checkpoint: Checkpoint, batch: Params, tmp_path: Path
) -> None:
    """Resuming a run that has completed all its steps gives the same parameters and changes nothing in its folder."""
    spec, options = lora_checkpoint.spec, training_options(**LEAN)
    trained = subject.train(spec, lora_checkpoint.params, [batch], options, folder=str(tmp_path))
    before = digests(tmp_path)
    resumed = subject.resume(spec, [batch], options, folder=str(tmp_path))
    assert resumed["losses"] == []
    assert_same_bits(resumed["params"], trained["params"])
    assert_same_bits(resumed["averaged"], trained["averaged"])
    assert digests(tmp_path) == before


@contract(source="openpi checkpoints.py:142; docs/bugs.md#e2", needs=("train", "resume", "moving_average", "lora"))
@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [(LEAN["ema_decay"], None, 1), (None, LEAN["ema_decay"], 0)],
    ids=["switched_off", "switched_on"],
)
def test_switching_the_average_keeps_what_was_trained(
    subject: Subject,
    lora_checkpoint: Checkpoint,
    batch: Params,
    tmp_path: Path,
    before: float | None,
    after: float | None,
    steps: int,
) -> None:
    """Resuming with the moving average switched on or off is refused by the folder's name, or continues from the
    trained parameters, which are never replaced by averaged ones. Either way, nothing in the folder changes."""
    spec = lora_checkpoint.spec
    first, second = (training_options(**LEAN | {"ema_decay": decay}) for decay in (before, after))
    trained = subject.train(spec, lora_checkpoint.params, [batch] * steps, first, folder=str(tmp_path))
    files = digests(tmp_path)
    resumed = unless_refused(lambda: subject.resume(spec, [batch] * steps, second, folder=str(tmp_path)), str(tmp_path))
    assert_same_bits((resumed or trained)["params"], trained["params"])
    assert digests(tmp_path) == files


CHANGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "alpha": ({"alpha": 11.0}, ("10.0", "11.0")),
    "rank": ({"rank": 5}, ("attn/q_einsum/lora_a",)),
    "rslora": ({"rslora": True}, ("rslora",)),
}


@contract(source="docs/bugs.md#e9, #p5, #p8", needs=("train", "resume", "lora"))
@pytest.mark.parametrize("change", CHANGES)
def test_resuming_with_another_adapter_is_refused(
    subject: Subject, lora_checkpoint: Checkpoint, batch: Params, tmp_path: Path, change: str
) -> None:
    """Resuming a run with another rank, alpha or scaling than it was trained with is refused, and the error names the
    difference."""
    options = training_options(**LEAN)
    subject.train(lora_checkpoint.spec, lora_checkpoint.params, [batch], options, folder=str(tmp_path))
    values, mentions = CHANGES[change]
    changed = copy.deepcopy(lora_checkpoint.spec)
    changed["paligemma"]["lora"]["attn"].update(values)  # type: ignore[index,typeddict-item,union-attr]
    with refused(str(tmp_path), *mentions):
        subject.resume(changed, [batch], options, folder=str(tmp_path))


@contract(source="docs/bugs.md#e4", needs=("train", "lora"))
def test_a_save_that_fails_is_an_error(
    subject: Subject, lora_checkpoint: Checkpoint, eight_devices: Elsewhere, tmp_path: Path
) -> None:
    """A save that fails, even in the background, is an error of the training run that started it and leaves no step
    behind."""
    spec, params, options = lora_checkpoint.spec, lora_checkpoint.params, training_options(**LEAN)
    with full_disk(eight_devices.pid), refused():
        eight_devices.train(spec, params, [], options, folder=str(tmp_path))
    assert list(tmp_path.glob("*/params")) == []


@contract(source="docs/bugs.md#c18, #e4", needs=("train", "resume", "moving_average", "lora"))
@pytest.mark.parametrize("params", [True, False], ids=["its_params", "the_rest"])
def test_a_damaged_step_is_named_and_an_older_one_resumes(
    subject: Subject, lora_checkpoint: Checkpoint, batch: Params, tmp_path: Path, params: bool
) -> None:
    """If the latest step of a run is damaged, resuming is refused by the step's name, and an earlier step resumes bit
    for bit."""
    spec, options = lora_checkpoint.spec, training_options(**LEAN)
    first = subject.train(spec, lora_checkpoint.params, [batch], options, folder=str(tmp_path))
    subject.resume(spec, [batch] * 2, options, folder=str(tmp_path))
    older, latest = sorted(int(path.parent.name) for path in tmp_path.glob("*/params"))
    damage(tmp_path / str(latest), params=params)
    with refused(str(tmp_path / str(latest))):
        subject.resume(spec, [batch] * 2, options, folder=str(tmp_path))
    again = subject.resume(spec, [batch], options, folder=str(tmp_path), step=older)
    assert_same_bits(again["params"], first["params"])
