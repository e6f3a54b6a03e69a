"""Compiler options for programs that run only a few times, where compiling takes longer than running."""

import functools
from typing import Any

import jax

UNOPTIMIZED: dict[str, Any] = {"xla_backend_optimization_level": 0}
# The CPU's newer emitters take four times as long for a small program, and code generation in several parts rounds
# equal parts of two programs differently. jax 0.12 has no other emitters and neither option.
_OLDER_EMITTERS = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}


@functools.cache
def quickest() -> dict[str, Any]:
    """Return the options that compile fastest with this jax; other options give other roundings.

    Bit for bit, sums with a zero stay what they were.
    """
    options = UNOPTIMIZED | _OLDER_EMITTERS
    try:
        jax.jit(lambda x: x + 1, compiler_options=options).lower(0).compile()
    except Exception:  # noqa: BLE001 - what an unknown option raises changed from release to release
        return UNOPTIMIZED
    return options
