"""Which parameters are trained, what a train state holds, and one step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0_compat.params import leaves_of
from pi0_compat.paths import is_adapter
from pi0_compat.training.step import abstract_train_state, average, init_train_state, make_train_state, trainable_paths
from suite.writing.asserts import assert_different, assert_same_bits
from tests.pi0_compat import tiny_models
from tests.pi0_compat.conftest import Training
from tests.pi0_compat.tiny_models import BASE, LORA, lora_params, train_config

FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32]


@pytest.fixture(scope="module")
def state() -> Any:
    """Return the state before the first step."""
    return Training.fresh_state()


def test_with_lora_the_experts_own_weights_are_not_trained() -> None:
    """Adapters, vision encoder and projections are trained; of the language model nothing else."""
    paths = set(trainable_paths(LORA))
    assert {path for path in paths if path.startswith("PaliGemma/llm/")} == {
        path for path in LORA.param_spec() if is_adapter(path)
    }
    assert {path for path in LORA.param_spec() if not path.startswith("PaliGemma/llm/")} <= paths


def test_without_lora_everything_is_trained() -> None:
    """A model without adapters is fine-tuned completely."""
    assert trainable_paths(BASE) == list(BASE.param_spec())


def test_a_state_holds_every_parameter_once(state: Any) -> None:
    """Trainable and frozen parameters are those of the model, without overlap."""
    assert sorted([*state.trainable, *state.frozen]) == list(LORA.param_spec())
    assert sorted(state.trainable) == trainable_paths(LORA)


def test_frozen_parameters_have_the_frozen_dtype(state: Any) -> None:
    """Frozen parameters are rounded once to bfloat16; trained ones stay float32."""
    expected = {
        path: array.astype(ml_dtypes.bfloat16) if LORA.is_frozen(path) else array
        for path, array in lora_params().items()
    }
    assert_same_bits(state.params, expected)


def test_trained_parameters_are_always_float32() -> None:
    """Parameters that come in bfloat16 are trained in float32."""
    params = {path: x.astype(ml_dtypes.bfloat16) for path, x in lora_params().items()}
    trained = make_train_state(train_config(), params).trainable
    assert {x.dtype for x in trained.values()} == {np.dtype(np.float32)}


def test_only_trained_parameters_have_moments(state: Any) -> None:
    """The optimizer's state is two moments of each trained parameter, and counters."""
    sizes = sum(x.size for x in jax.tree.leaves(state.opt_state) if x.ndim)
    assert sizes == 2 * sum(x.size for x in state.trainable.values())


def test_only_trained_parameters_are_averaged(state: Any) -> None:
    """The average starts as the trained parameters, in its own buffers."""
    assert_same_bits(state.ema, state.trainable)
    pointers = [{x.unsafe_buffer_pointer() for x in t.values()} for t in (state.ema, state.trainable)]
    assert pointers[0].isdisjoint(pointers[1])


def test_without_decay_there_is_no_average() -> None:
    """Without a decay there is no average, and the trained parameters are served."""
    plain = make_train_state(train_config(ema_decay=None), lora_params())
    assert plain.ema is None
    assert_same_bits(plain.inference_params, plain.params)


def test_the_average_is_served(state: Any) -> None:
    """For serving, averaged parameters replace trained ones, and frozen ones stay."""
    ones = {path: jnp.ones_like(x) for path, x in state.trainable.items()}
    assert_same_bits(dataclasses.replace(state, ema=ones).inference_params, dict(sorted((state.frozen | ones).items())))


def test_the_abstract_state_has_the_form_of_a_real_one(state: Any) -> None:
    """Structure, shapes and dtypes of a state are known without allocating it."""
    abstract = abstract_train_state(train_config())
    assert jax.tree.structure(abstract) == jax.tree.structure(state)
    expected = [(x.shape, x.dtype) for x in jax.tree.leaves(state)]
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(abstract)] == expected


def test_a_state_starts_from_the_configs_loader() -> None:
    """The loader's parameters make the state, and its report is returned."""
    with pytest.warns(UserWarning, match="freshly initialized"):
        state, report = init_train_state(train_config(), seed=1)
    assert leaves_of(state.params) == leaves_of(Training.fresh_state().params)
    assert len(report.entries) == len(state.params)


@given(
    seed=st.integers(0, 2**32 - 1),
    decay=st.floats(0.0, 1.0),
    dtype=st.sampled_from(FLOATS),
)
def test_the_average_of_a_constant_is_the_constant(seed: int, decay: float, dtype: Any) -> None:
    """Averaging constant values changes no bit, in any float and with any decay."""
    rng = np.random.default_rng(seed)
    constant = (rng.standard_normal(8) * 10.0 ** rng.integers(-4, 4)).astype(dtype)
    averaged = average({"w": jnp.asarray(constant)}, {"w": jnp.asarray(constant)}, decay)
    assert_same_bits(averaged, {"w": constant})


@pytest.mark.parametrize("value", [-0.0, np.inf, np.finfo(np.float32).max])
def test_the_average_of_an_odd_constant_is_the_constant(value: float) -> None:
    """Negative zero, infinity and the end of the range are constants too."""
    constant = np.full(2, value, np.float32)
    averaged = average({"w": jnp.asarray(constant)}, {"w": jnp.asarray(constant)}, 0.9)
    assert_same_bits(averaged, {"w": constant})


@pytest.mark.parametrize(("decay", "expected"), [(1.0, 2.0), (0.75, 3.0), (0.0, 6.0)])
def test_the_average_lies_between_old_and_new(decay: float, expected: float) -> None:
    """The decay is the weight of the old value."""
    averaged = average({"w": jnp.float32(2.0)}, {"w": jnp.float32(6.0)}, decay)
    assert float(averaged["w"]) == expected


def test_steps_are_counted(training: Training) -> None:
    """Every step adds one to the state's step, which stays int32."""
    assert [int(state.step) for state in training.states] == [1, 2]
    assert training.states[-1].step.dtype == np.int32


def test_a_second_step_compiles_nothing(training: Training) -> None:
    """A step returns what it accepts, so the next one runs the same program."""
    assert training.step._cache_size() == 1


def test_every_trained_parameter_moves(training: Training) -> None:
    """After two steps each trained parameter has changed."""
    for path, array in training.states[-1].trainable.items():
        assert_different(array, training.start[path])


def test_frozen_parameters_do_not_move(training: Training) -> None:
    """After two steps frozen parameters are unchanged bit for bit, in their dtype."""
    expected = {p: training.start[p].astype(ml_dtypes.bfloat16) for p in training.states[-1].frozen}
    assert_same_bits(training.states[-1].frozen, expected)


def test_dtypes_do_not_change(training: Training) -> None:
    """A step changes no shape and no dtype anywhere in the state."""
    before = jax.tree.map(lambda x: (x.shape, x.dtype), abstract_train_state(train_config()))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), training.states[-1]) == before


def test_the_average_follows(training: Training) -> None:
    """With decay one half, the average is halfway between the last average and the new value."""
    first, second = training.states
    expected = jax.tree.map(lambda old, new: old / 2 + new / 2, first.ema, second.trainable)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), second.ema, expected)


def test_loss_and_gradient_norm_are_numbers(training: Training) -> None:
    """Each step returns its loss and the norm of its gradient, both finite and positive."""
    for info in training.infos:
        assert info.keys() == {"loss", "grad_norm"}
        assert all(np.isfinite(value) and value > 0 for value in info.values())


def test_every_step_draws_new_noise(training: Training) -> None:
    """Step n draws from the run's key and n: the same state at another step has another loss."""
    inputs = (tiny_models.observation(tiny_models.batch()), tiny_models.batch()["actions"])
    state = Training.fresh_state()
    # Placed as the step is: for another placement, the program would be compiled again.
    later = dataclasses.replace(state, step=jax.device_put(jnp.asarray(7, jnp.int32), state.step.sharding))
    _, info = training.step(later, jax.random.key(0), inputs)
    assert float(info["loss"]) != float(training.infos[0]["loss"])


def test_the_state_is_donated(training: Training) -> None:
    """A step takes over the buffers that it is given, so that none exists twice."""
    assert all(x.is_deleted() for x in training.donated.trainable.values())


def test_training_leaves_host_arrays_alone(training: Training) -> None:
    """The arrays that a state was made from stay the caller's, and donation does not write to them."""
    assert_same_bits(training.start, lora_params())


def test_training_leaves_device_arrays_alone(training: Training) -> None:
    """Parameters that were on the device before can be used after a step."""
    params = {path: jnp.asarray(array) for path, array in lora_params().items()}
    inputs = (tiny_models.observation(tiny_models.batch()), tiny_models.batch()["actions"])
    training.step(make_train_state(train_config(), params), jax.random.key(0), inputs)
    assert not [path for path, array in params.items() if array.is_deleted()]
