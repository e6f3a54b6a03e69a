"""Where arrays are put. One device suffices to see how a mesh would divide them: an abstract mesh has no devices."""

from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding

from pi0_compat.params import Leaf
from pi0_compat.storage import placement as sharding
from pi0_compat.training.step import init_train_state, make_train_state
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.tiny_models import lora_params, train_config


class Eight:
    """A mesh of eight devices, with the attributes that ``fsdp`` reads."""

    size = 8
    axis_names = ("fsdp",)


def spec_of(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], min_bytes: int = 0) -> tuple[Any, ...]:
    """Return the partition of a float32 array over eight devices."""
    monkeypatch.setattr(sharding, "NamedSharding", lambda mesh, spec: tuple(spec))
    place = sharding.fsdp(Eight(), min_bytes=min_bytes)
    return place(Leaf(shape, np.dtype(np.float32)))


CUT = "fsdp"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((16, 24), (None, CUT)),
        ((24, 16), (CUT, None)),
        ((3, 8, 509), (None, CUT, None)),
        ((12, 509), (None, None)),
        ((64,), (None,)),
        ((), ()),
        ((0, 5), (None, None)),
    ],
)
def test_the_longest_divisible_axis_is_split(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], expected: tuple[Any, ...]
) -> None:
    """The longest axis that eight devices divide is split; vectors and odd shapes stay whole."""
    assert spec_of(monkeypatch, shape) == expected


@pytest.mark.parametrize(("min_bytes", "expected"), [(512, (CUT, None)), (513, (None, None))])
def test_small_arrays_stay_whole(monkeypatch: pytest.MonkeyPatch, min_bytes: int, expected: tuple[Any, ...]) -> None:
    """An array below the limit is replicated, one of exactly the limit is split."""
    assert spec_of(monkeypatch, (16, 8), min_bytes) == expected


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.float32(4), np.ones((0, 2), np.int8)])
def test_put_keeps_values_and_dtype(array: Any) -> None:
    """Shape, dtype and bits are unchanged."""
    array = np.asarray(array, np.float32 if array.dtype == np.float64 else array.dtype)
    assert_same_bits({"x": sharding.put(array, sharding.first_device())}, {"x": array})


def test_a_state_over_a_mesh_is_on_that_mesh() -> None:
    """Parameters, moments, average and counters are on the given mesh, with the values of a plain state."""
    mesh = Mesh(jax.devices(), ("fsdp",))
    spread = make_train_state(train_config(), lora_params(), sharding=sharding.fsdp(mesh))
    assert all(isinstance(x.sharding, NamedSharding) for x in jax.tree.leaves(spread))
    plain = make_train_state(train_config(), lora_params())
    assert_same_bits(*({str(n): x for n, x in enumerate(jax.tree.leaves(s))} for s in (spread, plain)))


def test_a_state_shares_no_memory_with_the_callers_arrays() -> None:
    """Changes of the caller's arrays do not show in the state."""
    params = lora_params()
    state = make_train_state(train_config(frozen_dtype="float32"), params)
    before = {path: np.array(x) for path, x in state.params.items()}
    for array in params.values():
        np.add(array, 1, out=array)
    assert_same_bits(state.params, before)


@pytest.mark.filterwarnings("ignore:no weight loader")
def test_a_loaded_state_over_a_mesh() -> None:
    """The loader's parameters are put on the given mesh."""
    mesh = Mesh(jax.devices(), ("fsdp",))
    state, _ = init_train_state(train_config(), seed=1, sharding=sharding.fsdp(mesh))
    assert all(isinstance(x.sharding, NamedSharding) for x in jax.tree.leaves(state))
