"""Make a jax array of a whole number that 32 bits do not hold."""

import warnings

import jax.numpy as jnp
import numpy as np

with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    try:
        found = int(jnp.asarray(np.asarray([2**40 + 5]))[0])
    except (OverflowError, TypeError, ValueError):  # an error is right
        found = 2**40 + 5
print("right" if found == 2**40 + 5 or seen else "wrong")
