"""Quick compiling: options that this jax accepts, and the same numbers up to rounding."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pi0_compat.training import compile_options as compiling
from pi0_compat.training.compile_options import UNOPTIMIZED, quickest


@pytest.fixture(autouse=True)
def _without_cached_options() -> Iterator[None]:
    quickest.cache_clear()
    yield
    quickest.cache_clear()


def test_the_options_are_accepted_and_change_no_number_much() -> None:
    x = jnp.linspace(-1, 1, 35).reshape(5, 7)
    quick = jax.jit(lambda x: jnp.tanh(x @ x.T).sum(), compiler_options=quickest())(x)
    np.testing.assert_allclose(quick, jnp.tanh(x @ x.T).sum(), rtol=1e-6)


def test_an_option_unknown_to_this_jax_is_omitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_OLDER_EMITTERS", {"xla_no_such_option": True})
    assert quickest() == UNOPTIMIZED
