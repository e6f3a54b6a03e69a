"""Result files of made-up benchmark runs, written from the format's description and not by the benchmarks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

SHA, OTHER_SHA = "0123456789abcdef" * 4, "f" * 64
FIXTURE = "small/orbax/float32"
# One process has as many samples as there are factors.
_JITTER = (1.0, 1.02, 0.99, 1.05)
LOSSES = [round(1.0 - 0.01 * step, 4) for step in range(4)] * 3


def result(*cells: Json, **changes: Any) -> Json:
    """A run of the reference and openpi; the cells are a load, a LoRA operation, a step and a sampling of each."""
    return {
        "schema": "pi0-compat/benchmark",
        "schema_version": 1,
        "run": run(),
        "environment": environment(),
        "subjects": {"reference": subject("1a2b3c4"), "openpi": subject("15a9616")},
        "ceilings": ceilings(),
        "fixtures": [fixture()],
        "cells": list(cells) or [cell for name in ("reference", "openpi") for cell in four(name)],
        **changes,
    }


def four(name: str, seconds: float = 1.0) -> list[Json]:
    """A cell of each workload."""
    return [make(name, seconds) for make in (load, lora, step, sampling)]


def run(**changes: Any) -> Json:
    return {
        "id": "2026-11-22T08:00:00Z-1a2b3c4",
        "started": "2026-11-22T08:00:00Z",
        "commit": "1a2b3c4567" * 4,
        "dirty": False,
        "arguments": ["--size", "small"],
        **changes,
    }


def environment(*accelerators: Json) -> Json:
    return {
        "slug": "cpu-2-core-toy",
        "cpu": {"model": "Toy", "cores": 2},
        "ram_bytes": 24 << 30,
        "os": "Linux",
        "kernel": "6.1",
        "virtualisation": None,
        "accelerators": list(accelerators),
        "noise": {"load_before": 0.1, "load_after": 0.2, "steal_share": 0.0},
    }


def subject(version: str) -> Json:
    return {"version": version, "python": "3.11.7", "packages": {"jax": "0.10.2"}, "device": "cpu: cpu"}


def ceilings(**changes: Any) -> Json:
    return {
        "matmul_tflops": {"bfloat16": 0.05, "float32": 0.1},
        "device_copy_gbs": 8.0,
        "host_to_device_gbs": None,
        "memcpy_gbs": 8.0,
        "read_warm_gbs": 4.0,
        "read_cold_gbs": 1.0,
        **changes,
    }


def fixture(**changes: Any) -> Json:
    told = {"id": FIXTURE, "layout": "orbax", "dtype": "float32", "bytes": 400_000_000}
    return {**told, "params": 100_000_000, "leaves": 50, "sha256": SHA, **changes}


def samples(seconds: float, processes: int = 3, **changes: Any) -> list[Json]:
    """Four samples of each process, a few percent around a time."""
    told = {"read_bytes": None, "host_peak_bytes": 500_000_000, "device_peak_bytes": None, "stages": {}, **changes}
    times = [(process, seconds * factor) for process in range(processes) for factor in _JITTER]
    return [{"process": process, "wall_s": time, "cpu_s": 1.5 * time, **told} for process, time in times]


def load(name: str = "reference", seconds: float = 1.0, **changes: Any) -> Json:
    """A load that gave what was expected."""
    stages = {"read": 0.5 * seconds, "cast": 0.2 * seconds}
    return _cell(name, "load/lora_state/small/warm", samples(seconds, read_bytes=400_000_000, stages=stages), **changes)


def lora(name: str = "reference", seconds: float = 1.0, **changes: Any) -> Json:
    """A merge that gave what was expected."""
    return _cell(name, "lora/merge/small", samples(seconds), **changes)


def step(name: str = "reference", seconds: float = 1.0, **changes: Any) -> Json:
    """Training steps at half of the ceiling, with the reference's losses."""
    counted = {"flops_per_sample": 25_000_000_000, "hardware_flops_per_sample": 30_000_000_000}
    compiled = {"trace_s": 1.0, "lower_s": 0.5, "compile_s": 6.0, "compiles": 1, "first_s": 9.0}
    told = {
        "options": {"temperature": "warm", "batch": 2, "dtype": "float32", "devices": 1},
        "values": {**counted, "tokens_per_sample": 100, "batch": 2},
        "processes": [compiled | {"compile_cached_s": 0.7}, dict(compiled), dict(compiled)],
        "losses": list(LOSSES),
        "digest": None,
    }
    return _cell(name, "step/train_step/small/lora/batch-2", samples(seconds), **{**told, **changes})


def sampling(name: str = "reference", seconds: float = 1.0, **changes: Any) -> Json:
    """Samplings of one observation, which are all the same."""
    told = {"id": "sampling/sample_actions/small/batch-1", "workload": "sampling", "operation": "sample_actions"}
    return step(name, seconds, **{**told, "losses": [0.7] * 12, **changes})


def unmeasured(cell: Json, outcome: str, reason: str | None = "a reason") -> Json:
    """A cell that came to nothing."""
    nothing: Json = {"samples": [], "processes": [], "values": {}, "digest": None, "losses": None}
    return cell | nothing | {"outcome": outcome, "reason": reason}


def write(file: Path, content: Json | str) -> Path:
    """A file of a result, or of any text."""
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def _cell(name: str, id_: str, measured: Sequence[Json], **changes: Any) -> Json:
    workload, operation, size = id_.split("/")[:3]
    return {
        "id": id_,
        "subject": name,
        "workload": workload,
        "operation": operation,
        "size": size,
        "fixture": FIXTURE,
        "options": {"temperature": "warm", "batch": None, "dtype": "bfloat16", "devices": 1},
        "outcome": "measured",
        "reason": None,
        "samples": list(measured),
        "processes": [{} for _ in {sample["process"] for sample in measured}],
        "values": {"resident_bytes": 300_000_000},
        "digest": {"expected": SHA, "found": SHA, "differing": []},
        "losses": None,
        **changes,
    }
