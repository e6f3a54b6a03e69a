"""The analysis of a program has the buffers between its products, which XLA's library for the CPU would hide."""

import jax
import jax.numpy as jnp

from benchmarks.gate.worker import _compiled
from benchmarks.measure.programs import Program

SIZE, WIDE = 256, 4096


def feed_forward(x: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    return ((x @ up) @ down).sum()


def test_a_chain_of_products_has_its_buffers() -> None:
    """What lies between two products counts, also where their result is summed at once."""
    arrays = jnp.ones((SIZE, SIZE)), jnp.ones((SIZE, WIDE)), jnp.ones((WIDE, SIZE))
    program = Program(jax.jit(feed_forward), arrays, lambda state: state, lambda loss: (arrays, loss))
    _, analysis = _compiled(program, arrays)
    assert analysis["temp_bytes"] >= 4 * SIZE * WIDE
