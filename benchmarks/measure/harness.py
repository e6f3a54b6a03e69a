"""Call a harness's functions ``bench_*``, which ``suite.subjects.protocol`` describes."""

from collections.abc import Callable
from typing import Any

from benchmarks.measure.programs import Program
from benchmarks.measure.stages import Stages
from fixtures.observations import asked, batch

_PREFIX = "bench_"


def operations(harness: Any) -> list[str]:
    """Return the names of the operations that a harness offers to benchmarks."""
    return [name.removeprefix(_PREFIX) for name in dir(harness) if name.startswith(_PREFIX) and name != "bench_arrays"]


def prepared(harness: Any, operation: str, job: dict[str, Any]) -> Callable[[], Any] | Program:
    """Prepare an operation, and return what to measure: a call, or a program to compile.

    Args:
      harness: the harness.
      operation: one of its ``operations``.
      job: as ``Cell.job`` makes it; a batch is added if the operation takes one.
    """
    if job["batch"]:
        job = job | {"inputs": _inputs(operation, job)}
    ready = getattr(harness, _PREFIX + operation)(job)
    return Program(**ready) if isinstance(ready, dict) else ready


def _inputs(operation: str, job: dict[str, Any]) -> dict[str, Any]:
    inputs = batch(job["model"], size=job["batch"], seed=job["seed"])
    if operation != "sample_tokens":
        return inputs
    # With a masked camera, openpi's tokens are others (docs/bugs.md), so all cameras are there.
    there = {name: array | True for name, array in inputs.items() if name.startswith("image_mask/")}
    return asked(inputs | there)


def arrays(harness: Any, result: Any) -> dict[str, Any]:
    """Return the params in the result of a call, by path."""
    params: dict[str, Any] = getattr(harness, "bench_arrays", lambda loaded: loaded)(result)
    return params


def stages(harness: Any) -> Stages:
    """Return the clocks of the functions that a harness names."""
    return Stages(getattr(harness, "BENCH_STAGES", {}))
