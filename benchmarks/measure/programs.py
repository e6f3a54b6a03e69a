"""A compiled training step or sampling, run again and again.

What compiles is measured apart from what runs: tracing, lowering, compiling, and then each call until its result is
there.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.measure.persistent_cache import cached_compile_seconds


class Program(NamedTuple):
    """What a subject gives for a training or a sampling.

    Attributes:
      jitted: the function, as the implementation jits it.
      state: what the first call starts from; a program that donates it gives the next one.
      arguments: of a state, what ``jitted`` is called with.
      after: of what a call returned, the next state and a number, the loss.
    """

    jitted: Any
    state: Any
    arguments: Callable[[Any], tuple[Any, ...]]
    after: Callable[[Any], tuple[Any, Any]]


class Running:
    """A program that was compiled, once.

    Attributes:
      costs: seconds of tracing, lowering and compiling.
      losses: what the calls gave; None for what is not finite.
    """

    def __init__(self, program: Program) -> None:
        self._program, self._state = program, program.state
        arguments = program.arguments(program.state)
        self.costs: dict[str, float] = {}
        traced = self._timed("trace_s", lambda: program.jitted.trace(*arguments))
        lowered = self._timed("lower_s", traced.lower)
        self._compiled = self._timed("compile_s", lowered.compile)
        self.losses: list[float | None] = []

    def step(self) -> None:
        """One call, until its number is here."""
        # Nothing but the program holds the state while it runs: it may be donated.
        arguments = self._program.arguments(self._state)
        self._state = None
        outputs = self._compiled(*arguments)
        del arguments
        self._state, loss = self._program.after(outputs)
        # A file has no word for what is not a number.
        self.losses.append(float(loss) if math.isfinite(loss) else None)

    def cached_compile_seconds(self) -> float | None:
        """Seconds of compiling with jax's persistent cache; None where it keeps nothing of this backend."""
        return cached_compile_seconds(self._program.jitted, self._program.arguments(self._state))

    def _timed(self, name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        self.costs[name] = time.perf_counter() - start
        return result
