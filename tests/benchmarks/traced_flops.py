"""FLOPs of matrix products and convolutions, counted in what JAX traces: an oracle for those counted from sizes."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def traced_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Return the FLOPs of every product in the traced function, loops included; nothing is run."""
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
    return sum(_flops(equation) for equation in jaxpr.eqns)


def _flops(equation: Any) -> int:
    name = equation.primitive.name
    if name == "while":
        raise ValueError("a while loop says nothing about how often it runs; use a loop of fixed length")
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
        return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
        outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2 * math.prod(out) * math.prod(kernel) // outputs
    times = equation.params["length"] if name == "scan" else 1
    return times * sum(_count(inner) for inner in _inner(equation.params.values()))


def _inner(values: Any) -> Iterator[Any]:
    """Yield the jaxprs among an equation's parameters, with closed ones opened."""
    for value in values:
        if isinstance(value, tuple | list):
            yield from _inner(value)
        elif hasattr(value, "eqns"):
            yield value
        elif hasattr(value, "jaxpr"):
            yield value.jaxpr
