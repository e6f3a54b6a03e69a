"""A compiled training step or sampling, called repeatedly.

Tracing, lowering and compiling are measured apart from the calls, each of which waits for its result.
"""

import math
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure.persistent_cache import cached_compile_seconds


class Program(NamedTuple):
    """What a harness returns for a training or a sampling.

    Attributes:
      jitted: the function, as the implementation jits it.
      state: the state of the first call; a program that donates it returns the next one.
      arguments: returns the arguments of ``jitted`` for a state.
      after: returns the next state and a number, the loss, for the outputs of a call; or written tokens [rows, steps]
        in place of the number, zeros where a row has ended.
    """

    jitted: Any
    state: Any
    arguments: Callable[[Any], tuple[Any, ...]]
    after: Callable[[Any], tuple[Any, Any]]


def number_of(outcome: Any) -> Any:
    """Return the loss of a call, or for written tokens a number that differs if any of them does."""
    return zlib.crc32(np.asarray(outcome, np.int32).tobytes()) if np.ndim(outcome) else outcome


class Running:
    """A program, compiled once.

    Attributes:
      costs: the seconds of tracing, lowering and compiling.
      losses: the loss of each call; None for one that is not finite. Of tokens, a number that differs if any does.
      written: the tokens that each row got in the last call, on average; None of another program.
    """

    def __init__(self, program: Program) -> None:
        self._program, self._state = program, program.state
        arguments = program.arguments(program.state)
        self.costs: dict[str, float] = {}
        traced = self._timed("trace_s", lambda: program.jitted.trace(*arguments))
        lowered = self._timed("lower_s", traced.lower)
        self._compiled = self._timed("compile_s", lowered.compile)
        self.losses: list[float | None] = []
        self.written: float | None = None

    def step(self) -> None:
        """Make one call and wait for its loss."""
        # Only the program holds the state while it runs, because it may be donated.
        arguments = self._program.arguments(self._state)
        self._state = None
        outputs = self._compiled(*arguments)
        del arguments
        self._state, loss = self._program.after(outputs)
        if np.ndim(loss):
            self.written = np.count_nonzero(loss) / len(loss)
        loss = number_of(loss)
        # JSON cannot express NaN or infinity.
        self.losses.append(float(loss) if math.isfinite(loss) else None)

    def cached_compile_seconds(self) -> float | None:
        """Return the seconds of compiling with jax's persistent cache; None if it caches nothing for this backend."""
        return cached_compile_seconds(self._program.jitted, self._program.arguments(self._state))

    def _timed(self, name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        self.costs[name] = time.perf_counter() - start
        return result
