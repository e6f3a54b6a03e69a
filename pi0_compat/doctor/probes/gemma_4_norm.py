"""Give the norms of gemma's first and fourth generation the same scale."""

import jax.numpy as jnp
from gemma.gm.nn import _layers as first
from gemma.gm.nn.gemma4 import _layers as fourth

inputs = jnp.asarray([[1.0, -1.0, 1.0, -1.0]])
values = {"params": {"scale": jnp.full(4, 0.5)}}
one, other = (layers.RMSNorm().apply(values, inputs) for layers in (first, fourth))
print("right" if bool(jnp.allclose(one, other, atol=1e-3)) else "wrong")
