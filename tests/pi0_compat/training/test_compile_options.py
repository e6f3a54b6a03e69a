"""Quick compiling: options that this jax knows, and the same numbers but for roundings."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pi0_compat.training import compile_options as compiling
from pi0_compat.training.compile_options import UNOPTIMISED, quickest


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    quickest.cache_clear()
    yield
    quickest.cache_clear()


def test_the_options_are_known_and_change_no_number_much() -> None:
    x = jnp.linspace(-1, 1, 35).reshape(5, 7)
    quick = jax.jit(lambda x: jnp.tanh(x @ x.T).sum(), compiler_options=quickest())(x)
    np.testing.assert_allclose(quick, jnp.tanh(x @ x.T).sum(), rtol=1e-6)


def test_an_option_that_this_jax_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_OLDER_EMITTERS", {"xla_no_such_option": True})
    assert quickest() == UNOPTIMISED
