"""pi0-FAST from a base checkpoint to a fine-tuned one: openpi's steps, adapters, runs, devices."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from fixtures import observations
from fixtures.golden_cases import GOLDEN, read_fast_case
from fixtures.writers import openpi
from pi0_compat.checkpoints.lora import attach_checkpoint, extract_checkpoint, fold_checkpoint
from pi0_compat.errors import LoadError
from pi0_compat.layouts.orbax.restore import restore_params
from pi0_compat.layouts.orbax.save import save_params
from pi0_compat.loading.loaders import CheckpointWeightLoader
from pi0_compat.loading.report import Status
from pi0_compat.lora.fold import fold, unfold
from pi0_compat.lora.params import extract, initialize_lora_parameters, merge_parameters
from pi0_compat.model.config import Pi0Config
from pi0_compat.norm_stats.openpi_files import write_norm_stats
from pi0_compat.norm_stats.stats import Stats
from pi0_compat.params import to_numpy
from pi0_compat.paths import is_adapter
from pi0_compat.storage.placement import fsdp
from pi0_compat.training.compile_options import quickest
from pi0_compat.training.configs import AdamW, CosineDecaySchedule, TrainConfig, get_config
from pi0_compat.training.runs import open_run, resume_train_state, save_train_state
from pi0_compat.training.step import init_train_state, make_train_state, make_train_step, trainable_paths
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.tiny_fast import BASE, BASE_SPEC, LORA, base_params, lora_params, observation
from tests.pi0_compat.tiny_models import train_config

# Openpi's values, as closely as rounding determines them: AdamW divides a gradient of pure rounding by itself.
VALUES_ATOL, SHARE = 1e-4, 0.99


def test_openpis_training_steps() -> None:
    """Three AdamW steps have openpi's losses and gradient norms, and change what openpi changes, to its values."""
    case = read_fast_case(GOLDEN / "pi0_fast_lora_scaled")
    expected = case.training
    assert expected
    optimizer = expected.optimizer
    adamw = {name: optimizer[name] for name in ("b1", "b2", "eps", "weight_decay")}
    config = TrainConfig(
        model=Pi0Config.from_json({**case.spec}),
        optimizer=AdamW(**adamw, clip_gradient_norm=optimizer["clip"]),
        lr_schedule=CosineDecaySchedule(**optimizer["schedule"]),
        ema_decay=None,
        frozen_dtype="float32",
    )
    params = openpi.read_params(case.checkpoint)
    state, step = make_train_state(config, params), make_train_step(config, compiler_options=quickest())
    batch, infos = (observation(case.batch), case.batch["actions"]), []
    for _ in expected.losses:
        state, info = step(state, jax.random.key(case.seed), batch)
        infos.append(info)
    np.testing.assert_allclose([info["loss"] for info in infos], expected.losses, rtol=1e-4)
    np.testing.assert_allclose([info["grad_norm"] for info in infos], expected.grad_norms, rtol=1e-3)
    assert set(trainable_paths(config.model)) == expected.trainable
    after = to_numpy(state.params)
    assert {path for path in params if (after[path] != params[path]).any()} == expected.changed
    within = [np.abs(after[path] - values) <= VALUES_ATOL for path, values in expected.after.items()]
    assert np.concatenate([array.reshape(-1) for array in within]).mean() >= SHARE


def test_adapters_go_in_and_out() -> None:
    """Fresh adapters change no base parameter; extract, merge, fold and unfold give back what they were given."""
    base = base_params()
    fresh = initialize_lora_parameters(base, LORA, seed=3)
    assert sorted(fresh) == [path for path in LORA.param_spec() if is_adapter(path)]
    assert_same_bits(LORA.init_params(3, only=fresh), fresh)
    assert_same_bits(extract(merge_parameters(base, fresh))[0], base)
    whole = lora_params()
    folded = fold(whole, LORA)
    BASE.require_fit(folded.params)
    assert_same_bits(unfold(folded.params, folded.replaced, LORA), whole)


def test_a_folded_model_has_the_same_logits() -> None:
    """A fold computes what base and adapters compute."""
    arrays, whole = observations.batch(BASE_SPEC), lora_params()
    folded = fold(whole, LORA).params
    logits = [
        jax.jit(lambda params, batch, config=config: config.merge(params).logits(batch), compiler_options=quickest())(
            params, observation(arrays)
        )
        for config, params in ((LORA, whole), (BASE, folded))
    ]
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-4)


def test_checkpoints_are_folded_extracted_and_attached(tmp_path: Path) -> None:
    """A recorded checkpoint needs no config, and what is attached is what was extracted."""
    array = Stats.of({"mean": [0.5], "std": [2.0], "q01": [-4.1], "q99": [5.1]})
    write_norm_stats({"state": array, "actions": array}, tmp_path / "assets" / "robot")
    save_params(lora_params(), tmp_path / "whole", config=LORA)
    save_params(base_params(), tmp_path / "base")
    made = fold_checkpoint(tmp_path / "whole", tmp_path / "folded")
    assert_same_bits(to_numpy(restore_params(made.path)), fold(lora_params(), LORA).params)
    extract_checkpoint(tmp_path / "whole", tmp_path / "adapters")
    attached = attach_checkpoint(tmp_path / "adapters", tmp_path / "base", tmp_path / "attached")
    assert_same_bits(to_numpy(restore_params(attached.path)), lora_params())


def test_base_into_lora(tmp_path: Path) -> None:
    """A base checkpoint starts a LoRA run: its parameters frozen in bfloat16 or trained, and fresh adapters."""
    openpi.build(BASE_SPEC, tmp_path / "params")
    config = train_config(model=LORA, weight_loader=CheckpointWeightLoader(tmp_path / "params"))
    state, report = init_train_state(config)
    assert report.count(Status.INITIALIZED) == 10
    assert report.count(Status.DROPPED) == 0
    assert {path for path in state.frozen if not path.startswith("PaliGemma/llm/")} == set()
    assert {str(array.dtype) for array in state.frozen.values()} == {"bfloat16"}
    assert {path for path in state.trainable if "/img/" in path} == {path for path in base_params() if "/img/" in path}


def test_a_run_is_resumed(tmp_path: Path) -> None:
    """Saved and resumed, on one device or spread over a mesh, every array is what it was."""
    config = train_config(model=LORA)
    state = make_train_state(config, lora_params())
    with open_run(tmp_path) as run:
        save_train_state(run, config, dataclasses.replace(state, step=state.step + 5))
    mesh = jax.make_mesh((1,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    for place in (None, fsdp(mesh, min_bytes=1024)):
        with open_run(tmp_path) as run:
            resumed = resume_train_state(run, config, sharding=place)
        assert int(resumed.step) == 5
        assert_same_bits(to_numpy(resumed.params), to_numpy(state.params))
    with pytest.raises(LoadError, match="of pi0_fast, the config is pi0"):
        CheckpointWeightLoader(tmp_path / "5" / "params").load(get_config("pi0_libero_low_mem_finetune_tiny").model)
