"""Saving and resuming a run without training: any state of the right form suffices."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fixtures.specs import tiny
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.restore import restore_params
from pi0_compat.model.config import Pi0Config
from pi0_compat.params import to_numpy
from pi0_compat.training.configs import TrainConfig
from pi0_compat.training.runs import open_run, resume_train_state, save_train_state
from pi0_compat.training.step import TrainState, make_train_state
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat import tiny_models
from tests.pi0_compat.conftest import Training, reads_damage
from tests.pi0_compat.tiny_models import BASE, LORA, base_params, lora_params, train_config

with_and_without_ema = pytest.mark.parametrize("ema_decay", [0.5, None], ids=["ema", "no_ema"])


def state_at(config: TrainConfig, step: int) -> TrainState:
    """Return a state in which every array has distinct values."""
    params = base_params() if config.model == BASE else lora_params()
    state = make_train_state(config, params)
    opt_state = jax.tree.map(lambda x: x + jnp.asarray(step, x.dtype), state.opt_state)
    ema = None if state.ema is None else {path: x + 0.5 for path, x in state.ema.items()}
    return dataclasses.replace(state, step=jnp.asarray(step, jnp.int32), opt_state=opt_state, ema=ema)


def save(folder: Path, config: TrainConfig, *steps: int) -> None:
    with open_run(folder, max_to_keep=None) as run:
        for step in steps:
            save_train_state(run, config, state_at(config, step))


def resume(folder: Path, config: TrainConfig, step: int | None = None) -> TrainState:
    with open_run(folder, max_to_keep=None) as run:
        return resume_train_state(run, config, step=step)


def assert_same_state(actual: TrainState, expected: TrainState) -> None:
    __tracebackhide__ = True
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    leaves = (enumerate(jax.tree.leaves(state)) for state in (actual, expected))
    assert_same_bits(*({str(n): x for n, x in numbered} for numbered in leaves))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a run of the shared config at steps 2 and 10."""
    folder = tmp_path_factory.mktemp("run")
    save(folder, train_config(), 2, 10)
    return folder


@with_and_without_ema
@pytest.mark.parametrize("model", [LORA, BASE], ids=["lora", "base"])
def test_round_trip(tmp_path: Path, ema_decay: float | None, model: Pi0Config) -> None:
    """A state is resumed bit for bit: step, trained, frozen, optimizer and, if any, average."""
    config = train_config(ema_decay=ema_decay, model=model)
    save(tmp_path, config, 3)
    assert_same_state(resume(tmp_path, config), state_at(config, 3))


def test_the_latest_step_is_resumed(run_folder: Path) -> None:
    """Without a step, the one with the highest number is used: 10 comes after 2."""
    assert int(resume(run_folder, train_config()).step) == 10


def test_an_earlier_step_can_be_resumed(run_folder: Path) -> None:
    """Any step that still exists can be requested."""
    assert_same_state(resume(run_folder, train_config(), 2), state_at(train_config(), 2))


@with_and_without_ema
def test_params_of_a_step_can_be_served(tmp_path: Path, ema_decay: float | None) -> None:
    """A step's ``params`` are a checkpoint for serving, for any reader of openpi's checkpoints."""
    config = train_config(ema_decay=ema_decay)
    save(tmp_path, config, 3)
    restored = restore_params(tmp_path / "3" / "params", restore_type=np.ndarray)
    assert_same_bits(restored, to_numpy(state_at(config, 3).inference_params))


def refusal(folder: Path, config: TrainConfig, step: int | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        resume(folder, config, step)
    assert str(caught.value).startswith(str(folder))
    return str(caught.value)


def test_a_missing_step_is_refused(run_folder: Path) -> None:
    """A missing step is refused with the existing ones."""
    assert refusal(run_folder, train_config(), 5).endswith("no checkpoint of step 5; found [2, 10]")


def test_an_empty_run_is_refused(tmp_path: Path) -> None:
    """Without saved steps there is nothing to resume."""
    assert refusal(tmp_path / "run", train_config()).endswith("no checkpoint of any step; found []")


def changed(**changes: Any) -> Pi0Config:
    """Return ``LORA`` with another attention adapter on PaliGemma."""
    data = LORA.to_json()
    data["paligemma"]["lora"]["attn"] |= changes
    return Pi0Config.from_json(data)


def test_another_alpha_is_refused(run_folder: Path) -> None:
    """Resuming with another alpha would scale every adapter: both are named."""
    text = refusal(run_folder, train_config(model=changed(alpha=11.0)))
    assert "'alpha': 10.0" in text
    assert "'alpha': 11.0" in text


def test_another_rank_is_refused(run_folder: Path) -> None:
    """Resuming with another rank is refused with both shapes."""
    text = refusal(run_folder, train_config(model=changed(rank=5)))
    assert "expected float32[3, 6, 56, 5], found float32[3, 6, 56, 4]" in text


@pytest.mark.parametrize("model", [BASE, Pi0Config.from_json({**tiny("pi05", lora="both")})])
def test_another_model_is_refused(run_folder: Path, model: Pi0Config) -> None:
    """Resuming with a model without adapters or of another family is refused by the config's name."""
    text = refusal(run_folder, train_config(model=model, name="other"))
    assert "of another model than config 'other'" in text


def test_another_frozen_dtype_is_refused(run_folder: Path) -> None:
    """Frozen parameters that were rounded to bfloat16 are not resumed as float32."""
    text = refusal(run_folder, train_config(frozen_dtype="float32"))
    assert "expected float32[509, 56], found bfloat16[509, 56]" in text


@pytest.mark.parametrize(("before", "after"), [(0.5, None), (None, 0.5)])
def test_switching_the_average_is_refused(tmp_path: Path, before: float | None, after: float | None) -> None:
    """A run with a moving average is not resumed without one, nor the other way round."""
    save(tmp_path, train_config(ema_decay=before), 1)
    assert "set ema_decay as it was" in refusal(tmp_path, train_config(ema_decay=after))


def test_a_leftover_temporary_folder_does_not_block(tmp_path: Path) -> None:
    """The remains of a killed save do not keep the same step from being saved."""
    for name in ("3.orbax-checkpoint-tmp-0", "3.orbax-checkpoint-tmp"):
        (tmp_path / name / "params").mkdir(parents=True)
        (tmp_path / name / "params" / "half").write_bytes(b"half")
    save(tmp_path, train_config(), 3)
    assert_same_state(resume(tmp_path, train_config()), state_at(train_config(), 3))


def test_a_leftover_temporary_folder_is_no_step(tmp_path: Path) -> None:
    """A killed save is not taken for a checkpoint."""
    (tmp_path / "3.orbax-checkpoint-tmp-0" / "params").mkdir(parents=True)
    assert refusal(tmp_path, train_config()).endswith("no checkpoint of any step; found []")


@pytest.mark.parametrize("step", [10, 5])
def test_no_save_is_skipped_silently(tmp_path: Path, step: int) -> None:
    """A step that exists already, or precedes the last, is written or refused, not ignored."""
    save(tmp_path, train_config(), 10)
    with open_run(tmp_path, max_to_keep=None) as run:
        state = state_at(train_config(), step)
        state = dataclasses.replace(state, ema=jax.tree.map(lambda x: x + 1, state.ema))
        try:
            save_train_state(run, train_config(), state)
        except (ValueError, FileExistsError, RuntimeError):
            return
    assert_same_state(resume(tmp_path, train_config(), step), state)


def test_old_steps_are_removed(tmp_path: Path) -> None:
    """By default only the last step is kept."""
    with open_run(tmp_path) as run:
        for step in (1, 2, 3):
            save_train_state(run, train_config(), state_at(train_config(), step))
    with open_run(tmp_path) as run:
        assert run.all_steps() == [3]


def test_the_folder_of_a_run_may_be_text(tmp_path: Path) -> None:
    """A str is accepted like a Path, and parent folders are created."""
    with open_run(str(tmp_path / "a" / "run")) as run:
        save_train_state(run, train_config(), state_at(train_config(), 1))
    assert (tmp_path / "a" / "run" / "1" / "params").is_dir()


def error_of(call: Callable[[], object]) -> str:
    """Return the type and text of the error; the error itself would keep orbax's coroutines alive."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - its type is what the test is about
        return f"{type(error).__name__}: {error}"
    return "no error"


@reads_damage
def test_a_damaged_step_is_a_checkpoint_error(tmp_path: Path) -> None:
    """A step whose train state lost its data is refused as damaged, by its folder."""
    save(tmp_path, train_config(), 1)
    files = [file for file in (tmp_path / "1" / "train_state").rglob("*") if file.is_file()]
    max(files, key=lambda file: file.stat().st_size).write_bytes(b"")
    error = error_of(lambda: resume(tmp_path, train_config()))
    assert error.partition(":")[0] == "CheckpointError"


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, training: Training) -> tuple[Any, Any, int]:
    """Return the second step of the shared run after an interruption, and the number of programs that it added."""
    folder, batch = tmp_path_factory.mktemp("resumed"), tiny_models.batch()
    with open_run(folder) as run:
        save_train_state(run, train_config(), jax.tree.map(jnp.asarray, training.states[0]))
    programs = training.step._cache_size()
    inputs = (tiny_models.observation(batch), batch["actions"])
    state, info = training.step(resume(folder, train_config()), jax.random.key(0), inputs)
    return jax.device_get(state), info, training.step._cache_size() - programs


def test_a_resumed_run_equals_an_uninterrupted_one(resumed: tuple[Any, Any, int], training: Training) -> None:
    """After an interruption the second step has the loss and the state of an uninterrupted one."""
    assert float(resumed[1]["loss"]) == float(training.infos[1]["loss"])
    assert_same_state(resumed[0], training.states[1])


def test_a_resumed_state_runs_the_same_program(resumed: tuple[Any, Any, int]) -> None:
    """A resumed state is placed like a fresh one, so the compiled step accepts it."""
    assert resumed[2] == 0
