"""Where the time of a call goes: seconds spent in named functions of an implementation, and in compiling.

While a call is measured, the functions are replaced by timed ones in the implementation's own modules. Time counts for
the innermost stage, so the stages of a call add up to no more than the call.
"""

import contextlib
import functools
import importlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import jax

COMPILE = "compile"
# jax reports the seconds of tracing, lowering and compiling each program under these names.
_COMPILED = "/jax/core/compile/backend_compile_duration"
_COMPILING = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    _COMPILED,
)


class Stages:
    """The seconds that the main thread spent in each stage since ``clear``.

    Attributes:
      seconds: {stage: seconds}.
      programs: the number of programs compiled, in any thread.
    """

    def __init__(self, functions: Mapping[str, Sequence[str]]) -> None:
        self._functions = functions
        self.seconds: dict[str, float] = defaultdict(float)
        self.programs = 0
        # For every open stage, the seconds that belong to inner stages.
        self._open: list[float] = []
        jax.monitoring.register_event_duration_secs_listener(self._compiled)

    def clear(self) -> None:
        """Reset seconds and programs."""
        self.seconds.clear()
        self.programs = 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Time the functions in the body."""
        with contextlib.ExitStack() as patches:
            for stage, places in self._functions.items():
                for place in places:
                    owner, name = _find(place)
                    patches.enter_context(mock.patch.object(owner, name, self._timed(stage, getattr(owner, name))))
            yield

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return function(*args, **kwargs)
            self._open.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._close(stage, time.perf_counter() - start)

        return timed

    def _close(self, stage: str, seconds: float) -> None:
        self.seconds[stage] += seconds - self._open.pop()
        self._belongs_elsewhere(seconds)

    def _compiled(self, event: str, seconds: float, **_: Any) -> None:
        self.programs += event == _COMPILED
        if event in _COMPILING and threading.current_thread() is threading.main_thread():
            self.seconds[COMPILE] += seconds
            self._belongs_elsewhere(seconds)

    def _belongs_elsewhere(self, seconds: float) -> None:
        if self._open:
            self._open[-1] += seconds


def _find(place: str) -> tuple[Any, str]:
    """Return the owner and the name of ``module:name`` or ``module:Class.name``."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    return functools.reduce(getattr, owners, importlib.import_module(module)), name
