"""Update a model with a state that lacks a parameter and has another in another shape, with flax's nnx."""

import jax.numpy as jnp
from flax import nnx

model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
state = nnx.state(model)
try:
    nnx.update(model, nnx.State({"kernel": state["kernel"].replace(jnp.ones((5, 5)))}))
    print("wrong")
except (KeyError, TypeError, ValueError):
    print("right")
