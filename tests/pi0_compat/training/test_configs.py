"""Named training configs, the learning rate at important steps, and the optimizer's clipping."""

import dataclasses
import math
import re

import jax.numpy as jnp
import numpy as np
import pytest

from fixtures import openpi_configs
from fixtures.golden_cases import full_size
from fixtures.writers import openpi_layout
from pi0_compat.errors import LoadError
from pi0_compat.loading.loaders import CheckpointWeightLoader, NoOpWeightLoader
from pi0_compat.loading.missing import MissingWeightLoader
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.named import TINY_SUFFIX
from pi0_compat.params import leaves_of
from pi0_compat.training import configs
from pi0_compat.training.configs import AdamW, CosineDecaySchedule

NAMES = configs.config_names()
REAL = [name for name in NAMES if not name.endswith(TINY_SUFFIX)]
# openpi's model, as it declares it, of each config.
DECLARED = {
    "pi0_base": "pi0_libero",
    "pi0_libero": "pi0_libero",
    "pi0_libero_low_mem_finetune": "pi0_libero_low_mem_finetune",
    "pi05_base": "pi05_libero",
    "pi05_libero": "pi05_libero",
    "pi05_libero_low_mem_finetune": "pi05 with lora on both",
    "pi0_fast_base": "pi0_fast_libero",
    "pi0_fast_libero": "pi0_fast_libero",
    "pi0_fast_libero_low_mem_finetune": "pi0_fast_libero_low_mem_finetune",
}
OPENPI = openpi_configs.configs()
OWN_LORA = {
    *("pi05_aloha_low_mem_finetune", "pi05_droid_low_mem_finetune", "pi05_libero_low_mem_finetune"),
    "pi0_fast_droid_low_mem_finetune",
}

# The learning rate of the tests at the end.
SCHEDULE = CosineDecaySchedule(warmup_steps=10, peak_lr=0.5, decay_steps=100, decay_lr=0.05)

every_name = pytest.mark.parametrize("name", NAMES)
real_names = pytest.mark.parametrize("name", REAL)


@every_name
def test_a_config_has_the_name_it_is_found_by(name: str) -> None:
    """``get_config`` returns the config of that name, and an equal one every time."""
    assert configs.get_config(name).name == name
    assert configs.get_config(name) == configs.get_config(name)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("pi0_liber", "pi0_libero"), ("pi05-base", "pi05_base"), ("PI0_BASE", "pi0_base")],
)
def test_a_misspelled_name_gets_the_closest_names(typo: str, meant: str) -> None:
    """An unknown name is refused with the names that are close to it."""
    with pytest.raises(ValueError, match=rf"no config '{typo}'.*closest names are .*\b{meant}\b"):
        configs.get_config(typo)


def test_an_unknown_name_gets_all_names() -> None:
    """If no name is close, every name is listed."""
    with pytest.raises(ValueError, match=", ".join(NAMES)):
        configs.get_config("???")


@pytest.mark.parametrize("name", DECLARED)
def test_parameters_are_openpis(name: str) -> None:
    """A real config's model has the parameters that openpi declares: paths, shapes, count."""
    declared, spec = full_size()[DECLARED[name]], configs.get_config(name).model.param_spec()
    assert {path: (leaf.shape, leaf.dtype.name) for path, leaf in leaves_of(spec).items()} == declared.parameters
    assert sum(math.prod(leaf.shape) for leaf in spec.values()) == declared.total


@pytest.mark.parametrize("name", OPENPI)
def test_a_model_is_openpis(name: str) -> None:
    """openpi's config of that name has the same sizes, compute dtype and adapters, so the same parameters."""
    model, declared = configs.get_config(name).model, OPENPI[name].spec
    assert model == Pi0Config.from_json({**declared})
    shapes = {path: leaf.shape for path, leaf in model.param_spec().items()}
    assert shapes == openpi_layout.shapes(declared)


@pytest.mark.parametrize("name", OPENPI)
def test_a_run_is_openpis(name: str) -> None:
    """openpi's config of that name has the same average, batch, number of steps, schedule and frozen parameters."""
    config, declared = configs.get_config(name), OPENPI[name]
    for field in ("ema_decay", "batch_size", "num_train_steps"):
        assert getattr(config, field) == getattr(declared, field)
    assert dataclasses.asdict(config.lr_schedule) == declared.lr_schedule
    assert any(map(config.model.is_frozen, config.model.param_spec())) == declared.freezes


def test_openpi_has_31_configs() -> None:
    """All of openpi's names are there; the others are base models and LoRA that openpi has not."""
    assert len(OPENPI) == 31
    own = set(REAL) - OPENPI.keys()
    assert own == {*(f"{family}_base" for family in ("pi0", "pi05", "pi0_fast")), *OWN_LORA}
    assert all(configs.get_config(name).model.has_lora for name in OWN_LORA)


@pytest.mark.parametrize("name", sorted(set(REAL) & full_size().keys()))
def test_moving_average_is_openpis(name: str) -> None:
    """Configs whose real trees openpi declares use openpi's moving average."""
    assert configs.get_config(name).ema_decay == full_size()[name].ema_decay


@real_names
def test_every_config_has_a_tiny_twin(name: str) -> None:
    """The twin is of the same family, adapts the same experts and is small."""
    real = configs.get_config(name)
    twin = configs.get_config(name + TINY_SUFFIX)
    assert twin.model.family == real.model.family
    assert twin.model.lora.keys() == real.model.lora.keys()
    assert sum(math.prod(leaf.shape) for leaf in twin.model.param_spec().values()) < 1_000_000


@real_names
def test_a_twin_is_trained_like_its_config(name: str) -> None:
    """Optimizer, schedule, average and dtype of the twin are those of the config."""
    real, twin = configs.get_config(name), configs.get_config(name + TINY_SUFFIX)
    for field in ("optimizer", "lr_schedule", "ema_decay", "frozen_dtype"):
        assert getattr(twin, field) == getattr(real, field)
    assert twin.model.dtype == real.model.dtype


def test_every_twin_belongs_to_a_config() -> None:
    """There are as many twins as configs."""
    assert {name + TINY_SUFFIX for name in REAL} == set(NAMES) - set(REAL)


@pytest.mark.parametrize("name", OPENPI)
def test_weights_come_from_where_openpi_has_them(name: str) -> None:
    """A config starts from openpi's checkpoint; where openpi has none it would start fresh, and here only to debug."""
    loader, weights = configs.get_config(name).weight_loader, OPENPI[name].weights
    if weights:
        assert loader == CheckpointWeightLoader(weights)
    else:
        assert isinstance(loader, NoOpWeightLoader if name.startswith("debug") else MissingWeightLoader)


@pytest.mark.parametrize("name", sorted(set(REAL) - OPENPI.keys()))
def test_own_configs_start_from_a_checkpoint_of_the_family(name: str) -> None:
    """A config that openpi does not have starts from one of openpi's public checkpoints of the same family."""
    config = configs.get_config(name)
    assert isinstance(config.weight_loader, CheckpointWeightLoader)
    path = str(config.weight_loader.path)
    assert re.fullmatch(rf"gs://openpi-assets/checkpoints/{config.model.family}_(base|droid)/params", path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pi0_droid", "openpi serves gs://openpi-assets/checkpoints/pi0_droid with it"),
        ("paligemma_vq_droid", "CheckpointWeightLoader('gs://openpi-assets/checkpoints/roboarena/paligemma_vq_droid"),
        ("paligemma_binning_droid_jointpos", "no weights of it are public"),
    ],
)
def test_a_config_without_weights_says_what_to_pass(name: str, words: str) -> None:
    """Where openpi would silently initialize everything, the error has the config, its weights, and the way out."""
    config = configs.get_config(name)
    with pytest.raises(LoadError, match=f"config '{name}' names no weights") as refusal:
        config.weight_loader.load(config.model)
    assert words in str(refusal.value)
    assert "weight_loader=CheckpointWeightLoader(" in str(refusal.value)


@real_names
def test_a_twin_has_no_public_checkpoint(name: str) -> None:
    """The weights of a twin start fresh."""
    twin = configs.get_config(name + TINY_SUFFIX)
    assert isinstance(twin.weight_loader, NoOpWeightLoader)


@every_name
def test_the_freeze_filter_equals_the_models(name: str) -> None:
    """The filter freezes what the model says, and something exactly if the model has LoRA."""
    config = configs.get_config(name)
    frozen = {p for p in config.model.param_spec() if config.freeze_filter(tuple(p.split("/")), None)}
    assert frozen == {path for path in config.model.param_spec() if config.model.is_frozen(path)}
    assert bool(frozen) == config.model.has_lora


@every_name
def test_a_config_can_be_a_dictionary_key(name: str) -> None:
    """Configs are hashable, so that compiled steps are reused."""
    assert {configs.get_config(name): 1}[configs.get_config(name)] == 1


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.5 / 11), (10, 0.5), (55, (0.5 + 0.05) / 2), (100, 0.05), (1000, 0.05)],
    ids=["first", "peak", "halfway_down", "end", "after"],
)
def test_schedule(step: int, rate: float) -> None:
    """The rate starts above zero, is the peak after warm-up and stays at its end value."""
    assert float(SCHEDULE.create()(step)) == pytest.approx(rate, rel=1e-5)


def test_warm_up_is_linear() -> None:
    """Every step of the warm-up adds the same amount."""
    steps = np.diff([float(SCHEDULE.create()(n)) for n in range(11)])
    np.testing.assert_allclose(steps, (0.5 - 0.5 / 11) / 10, rtol=1e-4)


def test_no_warm_up_starts_at_the_peak() -> None:
    """Without warm-up the first step has the peak rate."""
    schedule = CosineDecaySchedule(warmup_steps=0, peak_lr=0.5, decay_steps=100, decay_lr=0.05)
    assert float(schedule.create()(0)) == 0.5


def updates(optimizer: AdamW, gradient: float, steps: int) -> list[float]:
    params = {"w": jnp.zeros(4)}
    transform, changes = optimizer.create(SCHEDULE), []
    state = transform.init(params)
    for _ in range(steps):
        change, state = transform.update({"w": jnp.full(4, gradient)}, state, params)
        changes.append(float(change["w"][0]))
    return changes


def test_a_step_has_the_size_of_the_rate() -> None:
    """AdamW's steps on a constant gradient are the schedule's rates, against the gradient."""
    rates = [-float(SCHEDULE.create()(n)) for n in range(3)]
    np.testing.assert_allclose(updates(AdamW(weight_decay=0.0), 0.1, 3), rates, rtol=1e-4)


def test_gradients_are_clipped_by_their_global_norm() -> None:
    """A gradient of norm 2 is halved: with a large eps, where Adam is linear, so is the step."""
    options = {"eps": 1e6, "weight_decay": 0.0}
    (clipped,) = updates(AdamW(clip_gradient_norm=1.0, **options), 1.0, 1)
    (free,) = updates(AdamW(clip_gradient_norm=10.0, **options), 1.0, 1)
    assert clipped == pytest.approx(free / 2, rel=1e-5)
