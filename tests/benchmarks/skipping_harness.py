"""The reference with mistakes, as a harness: a load that is fast by cheating must not count."""

from collections.abc import Callable
from typing import Any

from suite.subjects import reference

NAME = "skipping"
TRAITS = ()
BENCH_STAGES = reference.BENCH_STAGES
describe = reference.describe
bench_arrays = reference.bench_arrays

_SKIPPED = "PaliGemma/llm/layers/mlp/linear"


def bench_restore(job: dict[str, Any]) -> Callable[[], Any]:
    """Leave one parameter out."""
    load = reference.bench_restore(job)
    return lambda: {path: array for path, array in load().items() if path != _SKIPPED}


def bench_inference(job: dict[str, Any]) -> Callable[[], Any]:
    """Return zeros in place of one parameter."""
    load = reference.bench_restore(job)
    return lambda: {path: array * (path != _SKIPPED) for path, array in load().items()}


def bench_lora_state(job: dict[str, Any]) -> Callable[[], Any]:
    """Raise MemoryError when called."""

    def call() -> Any:
        raise MemoryError("9 exabytes")

    return call


def bench_paligemma_state(job: dict[str, Any]) -> Callable[[], Any]:
    """Raise RuntimeError."""
    raise RuntimeError(f"no such thing as a {job['dtype']} PaliGemma")
