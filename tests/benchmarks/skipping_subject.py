"""The reference with mistakes, as a subject of the benchmarks: a load that is fast by cheating must not count."""

from typing import Any

from benchmarks.subjects import reference
from benchmarks.subjects.reference import STAGES, arrays, describe

__all__ = ["STAGES", "arrays", "describe", "inference", "lora_state", "paligemma_state", "restore"]

_SKIPPED = "PaliGemma/llm/layers/mlp/linear"


def restore(job: dict[str, Any]) -> reference.Call:
    """Leave one parameter out."""
    load = reference.restore(job)
    return lambda: {path: array for path, array in load().items() if path != _SKIPPED}


def inference(job: dict[str, Any]) -> reference.Call:
    """Return zeros in place of one parameter."""
    load = reference.restore(job)
    return lambda: {path: array * (path != _SKIPPED) for path, array in load().items()}


def lora_state(job: dict[str, Any]) -> reference.Call:
    """Raise MemoryError when called."""

    def call() -> Any:
        raise MemoryError("9 exabytes")

    return call


def paligemma_state(job: dict[str, Any]) -> reference.Call:
    """Raise RuntimeError."""
    raise RuntimeError(f"no such thing as a {job['dtype']} PaliGemma")
