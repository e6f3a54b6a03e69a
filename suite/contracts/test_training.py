"""Fine-tuning: what changes, what stays frozen, and that interruptions make no difference."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fixtures import content
from fixtures.specs import Family, ModelSpec, tiny
from suite.contracts.process_limits import full_disk
from suite.contracts.training_runs import FULL, FULL_PI05, LORA, Runs, Start, from_each, served, steps_of
from suite.session.registry import contract
from suite.subjects.marks import operation_of
from suite.subjects.process.elsewhere import Elsewhere
from suite.subjects.protocol import ProcessDiedError, Subject, UnavailableError, Unsupported
from suite.writing.asserts import assert_close, assert_same_bits, assert_same_paths, refused
from suite.writing.cases import LEAN, digests, is_adapter, training_options

PLACEMENTS = {f"lora_on_{placement}": tiny(lora=placement) for placement in ("none", "both", "paligemma")}
LLM = "PaliGemma/llm/"
# Without effect on any action: PaliGemma's last norm, and SigLIP's key biases, which a softmax cancels.
UNTRAINED = (f"{LLM}final_norm/scale", "PaliGemma/img/Transformer/encoderblock/MultiHeadDotProductAttention_0/key/bias")
# Far above rounding, far below the effect of another time on a loss.
DRAWS_RTOL = 1e-3
# For means of float32 losses of order one.
LOSS_RTOL = 2e-5
MOVING = ("train", "moving_average", "lora")


def damage(step: Path, *, params: bool) -> None:
    """Truncate the largest file of a step's parameters, or of the rest, to zero bytes."""
    files = [file for file in step.rglob("*") if file.is_file()]
    chosen = [file for file in files if file.relative_to(step).parts[0].startswith(("params", "model")) == params]
    max(chosen, key=lambda file: file.stat().st_size).write_bytes(b"")


def unless_refused(call: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any] | None, Exception | None]:
    """Return the result of a call, or the error by which an operation of the subject refuses it."""
    try:
        return call(), None
    except Exception as error:
        if operation_of(error) is None or isinstance(error, (Unsupported, UnavailableError, ProcessDiedError)):
            raise
        return None, error


@contract(
    source="openpi train.py:106, train.py:152; docs/bugs.md#b3", needs=("train", "trainable", "lora", "head_adapters")
)
def test_changes_only_trainables(subject: Subject, runs: Runs) -> None:
    """Steps of a LoRA model round frozen parameters once, to the requested bfloat16, and never touch them again."""
    trained, trainable = runs(LORA, 3)["params"], set(subject.trainable(LORA.spec))
    frozen = {path: x.astype(ml_dtypes.bfloat16) for path, x in LORA.params.items() if path not in trainable}
    assert_same_bits({path: trained[path] for path in frozen}, frozen)


@contract(source="arXiv:2106.09685 section 4.1; openpi train.py:137", needs=("train", "lora", "head_adapters"))
def test_changes_every_adapter(subject: Subject, runs: Runs) -> None:
    """Steps of a LoRA model change both matrices of every adapter."""
    before, after = runs(LORA, 0)["params"], runs(LORA, 3)["params"]
    unchanged = {path for path, x in before.items() if is_adapter(path) and not (after[path] != x).any()}
    assert_same_paths(unchanged, set())


@contract(source="openpi train.py:137", needs=("train",))
@from_each(FULL, FULL_PI05)
def test_changes_every_parameter(subject: Subject, runs: Runs, start: Start) -> None:
    """A step of full fine-tuning changes every parameter that a loss depends on, in each layer."""
    trained, unchanged = runs(start, 1)["params"], set()
    for path, before in start.params.items():
        stacked = "/layers/" in path or "/encoderblock/" in path
        changed = (trained[path] != before).reshape(len(before) if stacked else 1, -1).any(axis=1)
        # PaliGemma's last layer only hands on its keys and values.
        last = path.startswith(f"{LLM}layers/") and "_1/" not in path
        if not changed[: -1 if last else None].all():
            unchanged.add(path)
    assert_same_paths(unchanged - set(UNTRAINED), set())


@contract(source="openpi train.py:141: the loss of training is the model's", needs=("train", "loss", "float32"))
@from_each(FULL, FULL_PI05)
def test_minimizes_the_loss_of_the_model(subject: Subject, runs: Runs, start: Start) -> None:
    """The first loss of a run is the mean of the losses that the model has outside of training."""
    params, batch = start.params, start.batch
    losses = np.asarray(subject.loss(start.spec, params, batch, batch["noise"], batch["time"], seed=0))
    assert_close(runs(start, 1)["losses"], [losses.mean()], rtol=LOSS_RTOL)


@contract(
    source="openpi pi0_config.py:79; docs/bugs.md#b1, #b2, #b3, #b5, #b6", needs=("trainable", "param_spec", "lora")
)
@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_adapters_freeze_their_own_expert(subject: Subject, family: Family) -> None:
    """Adapters on an expert freeze that expert's own weights, including adaRMS in pi05, and nothing else."""
    frozen: dict[str, set[str]] = {}
    for placement in ("both", "paligemma", "action_expert"):
        spec = tiny(family, lora=placement)
        frozen[placement] = set(subject.param_spec(spec)) - set(subject.trainable(spec))
    paths = set(subject.param_spec(tiny(family, lora="both")))
    assert_same_paths(frozen["both"], {path for path in paths if path.startswith(LLM) and not is_adapter(path)})
    assert_same_paths(frozen["action_expert"], frozen["both"] - frozen["paligemma"])
    names = [path.removeprefix(LLM).split("/") for path in sorted(frozen["action_expert"])]
    assert names
    assert all(any(name.endswith("_1") for name in keys) for keys in names)


@contract(source="openpi pi0_config.py:79", needs=("trainable", "param_spec"))
@pytest.mark.parametrize("spec", [tiny("pi0"), tiny("pi05")], ids=["pi0", "pi05"])
def test_nothing_is_frozen_without_adapters(subject: Subject, spec: ModelSpec) -> None:
    """Full fine-tuning trains every parameter."""
    assert_same_paths(subject.trainable(spec), subject.param_spec(spec))


@contract(source="openpi train.py:110; docs/bugs.md#b2, #b3", needs=("train", "trainable", "counts_bytes"))
@pytest.mark.parametrize("spec", PLACEMENTS.values(), ids=PLACEMENTS)
def test_optimizer_keeps_nothing_of_frozen_parameters(subject: Subject, spec: ModelSpec) -> None:
    """AdamW keeps two float32 moments of every trainable parameter and nothing of a frozen one."""
    params = content.params(spec)
    kept = subject.train(spec, params, [], training_options(**LEAN))["optimizer_bytes"]
    moments = 2 * sum(params[path].size * 4 for path in subject.trainable(spec))
    # In addition to the moments there are counters.
    assert moments <= kept <= moments + 64


@contract(source="openpi train.py:169; docs/bugs.md#b4", needs=(*MOVING, "trainable"))
def test_moving_average_leaves_frozen_alone(subject: Subject, runs: Runs) -> None:
    """A moving average keeps frozen parameters bit for bit, even in bfloat16."""
    result, trainable = runs(LORA, 3), set(subject.trainable(LORA.spec))
    frozen = {path: array for path, array in result["params"].items() if path not in trainable}
    assert_same_bits({path: result["averaged"][path] for path in frozen}, frozen)


@contract(source="openpi train.py:169", needs=MOVING)
def test_moving_average_follows_what_is_trained(subject: Subject, runs: Runs) -> None:
    """A moving average lags behind exactly those parameters that training changes beyond rounding them."""
    result, start = runs(LORA, 3), runs(LORA, 0)["params"]
    trained, averaged = result["params"], result["averaged"]
    lagging = {path for path in trained if (averaged[path] != trained[path]).any()}
    assert_same_paths(lagging, {path for path in trained if (trained[path] != start[path]).any()})


@contract(source="openpi train.py:169", needs=MOVING)
def test_moving_average_starts_at_the_parameters(subject: Subject, runs: Runs) -> None:
    """Before the first step, the average equals the parameters bit for bit."""
    start = runs(LORA, 0)
    assert_same_bits(start["averaged"], start["params"])


@contract(source="openpi train.py:169; docs/bugs.md#b4", needs=(*MOVING, "trainable"))
def test_moving_average_weighs_the_past_by_its_decay(subject: Subject, runs: Runs) -> None:
    """After the first step, the step's change has the weight one minus decay in the average."""
    start, step = runs(LORA, 0), runs(LORA, 1)
    for path in subject.trainable(LORA.spec):
        followed = step["averaged"][path] - start["params"][path]
        changed = step["params"][path] - start["params"][path]
        assert_close(followed, (1 - LEAN["ema_decay"]) * changed, atol=1e-6, name=path)


@contract(
    source="jax: a new shape, dtype or placement is a new program", needs=("train", "counts_compilations", "lora")
)
def test_later_steps_compile_nothing(subject: Subject) -> None:
    """A training run compiles its step at most once: each step returns exactly what the next one accepts."""
    result = subject.train(LORA.spec, LORA.params, [LORA.batch] * 3, LORA.options(3))
    assert result["compiled"][0] <= 1
    assert result["compiled"][1:] == [0, 0]


@contract(source="arXiv:2410.24164, flow matching", needs=("train",))
@from_each(FULL, LORA)
def test_learns_one_batch(subject: Subject, start: Start) -> None:
    """Fine-tuning repeatedly on one batch reduces its loss by more than a third."""
    losses = subject.train(start.spec, start.params, [start.batch] * 80, start.options(80))["losses"]
    # Where noise and time are drawn anew in every step, single losses vary.
    assert np.mean(losses[-10:]) < 2 / 3 * np.mean(losses[:3])


@contract(source="openpi train.py:155, rng folded with the step", needs=("train", "lora", "head_adapters"))
def test_each_step_draws_anew(subject: Subject, runs: Runs) -> None:
    """A run's second step draws other noise and times than its first one: from the parameters that the first step ends
    on, a new run's first loss differs from the second loss of the run."""
    second = runs(LORA, 3)["losses"][1]
    again = subject.train(LORA.spec, runs(LORA, 1)["params"], [LORA.batch], LORA.options(1))["losses"][0]
    assert abs(again / second - 1) > DRAWS_RTOL


@contract(source="openpi checkpoints.py:101; docs/bugs.md#e1, #p5", needs=("train", "resume"))
@from_each(FULL, LORA)
def test_resumed_equals_uninterrupted(subject: Subject, runs: Runs, tmp_path: Path, start: Start) -> None:
    """Steps with a save and a resume in between end on the same bits as uninterrupted ones."""
    runs.saved(start, tmp_path)
    assert_same_bits(runs.resumed(start, tmp_path, 3)["params"], runs(start, 3)["params"])


@contract(source="openpi checkpoints.py:101, train.py:155", needs=("train", "resume"))
@from_each(FULL, LORA)
def test_resumed_run_continues_the_losses(subject: Subject, runs: Runs, tmp_path: Path, start: Start) -> None:
    """The losses before a save and after a resume are those of an uninterrupted run."""
    before = runs.saved(start, tmp_path)["losses"]
    assert before + runs.resumed(start, tmp_path, 3)["losses"] == runs(start, 3)["losses"]


@contract(source="openpi checkpoints.py:142; docs/bugs.md#e1", needs=(*MOVING, "resume"))
def test_resumed_average_equals_uninterrupted(subject: Subject, runs: Runs, tmp_path: Path) -> None:
    """The moving average goes on after a resume as if there had been no interruption."""
    runs.saved(LORA, tmp_path)
    assert_same_bits(runs.resumed(LORA, tmp_path, 3)["averaged"], runs(LORA, 3)["averaged"])


@contract(source="openpi checkpoints.py:142", needs=("train", "restore"))
@from_each(FULL, LORA)
def test_saves_what_is_served(subject: Subject, runs: Runs, tmp_path: Path, start: Start) -> None:
    """A run's `<step>/params` is a checkpoint of the trained parameters; of their average, if there is one."""
    trained = runs.saved(start, tmp_path)
    assert_same_bits(subject.restore(served(tmp_path), None), trained["averaged"] or trained["params"])


@contract(source="openpi checkpoints.py:142, policy_config.py:54", needs=("train", "load_for_inference"))
@from_each(FULL, LORA)
def test_serves_what_is_saved(subject: Subject, runs: Runs, tmp_path: Path, start: Start) -> None:
    """A run's `<step>/params` can be served directly, with the trained parameters or their average."""
    trained = runs.saved(start, tmp_path)
    loaded = subject.load_for_inference(start.spec, served(tmp_path))
    assert_same_bits(loaded, trained["averaged"] or trained["params"])


@contract(source="docs/bugs.md#e1", needs=("train", "resume"))
@from_each(FULL, LORA)
def test_resuming_a_finished_run_changes_nothing(subject: Subject, runs: Runs, tmp_path: Path, start: Start) -> None:
    """Resuming a run that has completed all its steps takes none and gives the same parameters."""
    trained = runs.saved(start, tmp_path)
    resumed = runs.resumed(start, tmp_path, 1)
    assert resumed["losses"] == []
    assert_same_bits(resumed["params"], trained["params"])


@contract(source="docs/bugs.md#e1", needs=(*MOVING, "resume"))
def test_resuming_a_finished_run_keeps_its_average(subject: Subject, runs: Runs, tmp_path: Path) -> None:
    """Resuming a run that has completed all its steps gives the same moving average."""
    trained = runs.saved(LORA, tmp_path)
    assert_same_bits(runs.resumed(LORA, tmp_path, 1)["averaged"], trained["averaged"])


@contract(source="docs/bugs.md#e1", needs=("train", "resume"))
@from_each(FULL, LORA)
def test_resuming_a_finished_run_writes_nothing(subject: Subject, runs: Runs, tmp_path: Path, start: Start) -> None:
    """Resuming a run that has completed all its steps changes nothing in its folder."""
    runs.saved(start, tmp_path)
    before = digests(tmp_path)
    runs.resumed(start, tmp_path, 1)
    assert digests(tmp_path) == before


SWITCHED = {"switched_off": (LEAN["ema_decay"], None, 1), "switched_on": (None, LEAN["ema_decay"], 0)}
Switched = tuple[dict[str, Any], dict[str, Any] | None, Exception | None]


@pytest.fixture
def switched(subject: Subject, tmp_path: Path, change: str) -> Callable[[], Switched]:
    """Train, and resume with the moving average switched on or off; return both results, and the error if refused."""
    before, after, steps = SWITCHED[change]

    def train() -> Switched:
        first, second = (training_options(**LEAN | {"ema_decay": decay}) for decay in (before, after))
        batches = [LORA.batch] * steps
        trained = subject.train(LORA.spec, LORA.params, batches, first, folder=str(tmp_path))
        return trained, *unless_refused(lambda: subject.resume(LORA.spec, batches, second, folder=str(tmp_path)))

    return train


@contract(source="openpi checkpoints.py:142; docs/bugs.md#e2", needs=(*MOVING, "resume"))
@pytest.mark.parametrize("change", SWITCHED)
def test_switching_the_average_keeps_what_was_trained(
    subject: Subject, switched: Callable[[], Switched], change: str
) -> None:
    """Resuming with the moving average switched on or off is refused, or continues from the trained parameters, which
    are never replaced by averaged ones."""
    trained, resumed, _ = switched()
    assert_same_bits((resumed or trained)["params"], trained["params"])


@contract(source="openpi checkpoints.py:142; docs/bugs.md#e2", needs=(*MOVING, "resume"))
@pytest.mark.parametrize("change", SWITCHED)
def test_switching_the_average_is_refused_by_name(
    subject: Subject, switched: Callable[[], Switched], tmp_path: Path, change: str
) -> None:
    """If a run does not resume with the moving average switched on or off, the error names its folder."""
    _, _, error = switched()
    if error:
        with refused(str(tmp_path)):
            raise error


CHANGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "alpha": ({"alpha": 11.0}, ("10.0", "11.0")),
    "rank": ({"rank": 5}, ("attn/q_einsum/lora_a",)),
    "rslora": ({"rslora": True}, ("rslora",)),
}


@contract(source="docs/bugs.md#e9, #p5, #p8", needs=("train", "resume", "lora"))
@pytest.mark.parametrize("change", CHANGES)
def test_resuming_with_another_adapter_is_refused(subject: Subject, runs: Runs, tmp_path: Path, change: str) -> None:
    """Resuming a run with another rank, alpha or scaling than it was trained with is refused, and the error names the
    difference."""
    runs.saved(LORA, tmp_path)
    values, mentions = CHANGES[change]
    changed = copy.deepcopy(LORA.spec)
    changed["paligemma"]["lora"]["attn"].update(values)  # type: ignore[index,typeddict-item,union-attr]
    with refused(str(tmp_path), *mentions):
        subject.resume(changed, [LORA.batch], LORA.options(1), folder=str(tmp_path))


@contract(source="docs/bugs.md#e4", needs=("train", "lora", "head_adapters"))
def test_a_save_that_fails_is_an_error(subject: Subject, eight_devices: Elsewhere, tmp_path: Path) -> None:
    """A save that fails, even in the background, is an error of the training run that started it and leaves no step
    behind."""
    with full_disk(eight_devices.pid), refused():
        eight_devices.train(LORA.spec, LORA.params, [], LORA.options(0), folder=str(tmp_path))
    assert steps_of(tmp_path) == []


@contract(source="docs/bugs.md#c18, #e4", needs=("train", "resume"))
@from_each(FULL)
@pytest.mark.parametrize("params", [True, False], ids=["its_params", "the_rest"])
def test_a_damaged_step_is_refused_by_name(
    subject: Subject, runs: Runs, tmp_path: Path, start: Start, params: bool
) -> None:
    """If the latest step of a run is damaged, resuming is refused by the step's name."""
    runs.saved(start, tmp_path, steps=2)
    latest = steps_of(tmp_path)[-1]
    damage(tmp_path / str(latest), params=params)
    with refused(str(tmp_path / str(latest))):
        runs.resumed(start, tmp_path, 2)


@contract(source="docs/bugs.md#c18, #e4", needs=("train", "resume"))
@from_each(FULL, LORA)
def test_an_older_step_resumes(subject: Subject, runs: Runs, tmp_path: Path, start: Start) -> None:
    """If the latest step of a run is damaged, an earlier one resumes bit for bit."""
    runs.saved(start, tmp_path, steps=2)
    older, latest = steps_of(tmp_path)
    damage(tmp_path / str(latest), params=True)
    again = runs.resumed(start, tmp_path, 1, step=older)
    assert_same_bits(again["params"], runs(start, 1)["params"])
