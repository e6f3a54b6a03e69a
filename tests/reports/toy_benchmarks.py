"""Result files of made-up benchmark runs, written from the description of the format, not by the benchmarks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

SHA, OTHER_SHA = "0123456789abcdef" * 4, "f" * 64
FIXTURE = "small/orbax/float32"
# One process has one sample for each factor.
_JITTER = (1.0, 1.02, 0.99, 1.05)
LOSSES = [round(1.0 - 0.01 * step, 4) for step in range(4)] * 3


def result(*cells: Json, **changes: Any) -> Json:
    """Return a run of the reference and openpi; each has a load, a LoRA operation, a step and a sampling by default."""
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
    """Return one cell of each workload."""
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
    identity = {"id": FIXTURE, "layout": "orbax", "dtype": "float32", "bytes": 400_000_000}
    return {**identity, "params": 100_000_000, "leaves": 50, "sha256": SHA, **changes}


def samples(seconds: float, processes: int = 3, **changes: Any) -> list[Json]:
    """Return four samples of each process, within a few percent of `seconds`."""
    common = {"read_bytes": None, "host_peak_bytes": 500_000_000, "device_peak_bytes": None, "stages": {}, **changes}
    times = [(process, seconds * factor) for process in range(processes) for factor in _JITTER]
    return [{"process": process, "wall_s": time, "cpu_s": 1.5 * time, **common} for process, time in times]


def load(name: str = "reference", seconds: float = 1.0, **changes: Any) -> Json:
    """Return a load with the expected digest."""
    stages = {"read": 0.5 * seconds, "cast": 0.2 * seconds}
    return _cell(name, "load/lora_state/small/warm", samples(seconds, read_bytes=400_000_000, stages=stages), **changes)


def lora(name: str = "reference", seconds: float = 1.0, **changes: Any) -> Json:
    """Return a merge with the expected digest."""
    return _cell(name, "lora/merge/small", samples(seconds), **changes)


def step(name: str = "reference", seconds: float = 1.0, **changes: Any) -> Json:
    """Return training steps at half of the ceiling, with the reference's losses."""
    counted = {"flops_per_sample": 25_000_000_000, "hardware_flops_per_sample": 30_000_000_000}
    compiled = {"trace_s": 1.0, "lower_s": 0.5, "compile_s": 6.0, "compiles": 1, "first_s": 9.0}
    fields = {
        "options": {"temperature": "warm", "batch": 2, "dtype": "float32", "devices": 1},
        "values": {**counted, "tokens_per_sample": 100, "batch": 2},
        "processes": [compiled | {"compile_cached_s": 0.7}, dict(compiled), dict(compiled)],
        "losses": list(LOSSES),
        "digest": None,
    }
    return _cell(name, "step/train_step/small/lora/batch-2", samples(seconds), **{**fields, **changes})


def sampling(name: str = "reference", seconds: float = 1.0, **changes: Any) -> Json:
    """Return samplings of one observation, all the same."""
    fields = {"id": "sampling/sample_actions/small/batch-1", "workload": "sampling", "operation": "sample_actions"}
    return step(name, seconds, **{**fields, "losses": [0.7] * 12, **changes})


def writing(name: str = "reference", seconds: float = 1.0, **changes: Any) -> Json:
    """Return writings of 64 tokens, all the same; their losses are digests."""
    fields = {"id": "sampling/sample_tokens/small/pi0_fast/batch-1/tokens-64", "operation": "sample_tokens"}
    return sampling(name, seconds, **{**fields, "losses": [3_000_000_000] * 12, **changes})


def unmeasured(cell: Json, outcome: str, reason: str | None = "a reason") -> Json:
    """Return the cell with this outcome and without measurements."""
    nothing: Json = {"samples": [], "processes": [], "values": {}, "digest": None, "losses": None}
    return cell | nothing | {"outcome": outcome, "reason": reason}


def write(file: Path, content: Json | str) -> Path:
    """Write a result, or any text, to a file."""
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
