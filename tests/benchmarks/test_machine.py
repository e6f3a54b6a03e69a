"""The description of a machine: allowed facts only, equal names for equal machines, noise."""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from benchmarks.machine import machine
from benchmarks.machine.machine import Noise

SCHEMA = Path(__file__).parents[2] / "reports" / "schema" / "results.schema.json"
H200 = {"kind": "NVIDIA H200", "count": 1, "memory_bytes": 143_771 * 2**20}


def device(kind: str, platform: str = "gpu", limit: int | None = None) -> Any:
    """Return a device as jax shows it."""
    return SimpleNamespace(
        device_kind=kind, platform=platform, memory_stats=lambda: None if limit is None else {"bytes_limit": limit}
    )


def stat(folder: Path, *ticks: int) -> Path:
    """Write a folder like /proc with these ticks of all processors."""
    (folder / "stat").write_text(f"cpu  {' '.join(map(str, ticks))}\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    return folder


@pytest.mark.parametrize("accelerators", [[], [H200]], ids=["cpu", "gpu"])
def test_an_environment_has_the_form_of_a_result_file(accelerators: list[dict[str, Any]]) -> None:
    """The environment of this machine matches the schema of results and has this machine's facts."""
    environment = machine.environment(accelerators, Noise())
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(environment, {**schema["$defs"]["environment"], "$defs": schema["$defs"]})
    assert environment["accelerators"] == accelerators
    assert environment["cpu"]["cores"] >= 1
    assert environment["ram_bytes"] > 2**28


def test_an_environment_has_no_private_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel is given by its number, without its builder's suffix, and nothing looks like a folder."""
    monkeypatch.setattr("platform.release", lambda: "6.1.102-acme-internal+")
    environment = machine.environment([], Noise())
    assert environment["kernel"] == "6.1.102"
    assert "acme" not in json.dumps(environment)
    assert not re.search(r"/\w+/", json.dumps(environment))


@pytest.mark.parametrize(
    ("model", "cores", "expected"),
    [
        ("Intel(R) Xeon(R) Platinum 8488C", 2, "cpu-xeon-platinum-8488c-2x"),
        ("Intel(R) Xeon(R) Processor", 2, "cpu-xeon-2x"),
        ("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz", 12, "cpu-core-i7-8700k-12x"),
        ("AMD EPYC 7B13 64-Core Processor", 8, "cpu-epyc-7b13-8x"),
        ("Apple M2 Pro", 10, "cpu-apple-m2-pro-10x"),
        (None, None, "cpu-riscv64-nx"),
    ],
)
def test_slugs_of_cpus(model: str | None, cores: int | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without an accelerator is named after its processor and cores."""
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert machine.slug({"model": model, "cores": cores}, []) == expected


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([("NVIDIA H200", 1)], "nvidia-h200-1x"),
        ([("NVIDIA H100 80GB HBM3", 8)], "nvidia-h100-80gb-hbm3-8x"),
        ([("TPU v5 lite", 4)], "tpu-v5-lite-4x"),
        ([("NVIDIA L4", 1), ("NVIDIA L40S", 2)], "nvidia-l4-1x-nvidia-l40s-2x"),
    ],
)
def test_slugs_of_accelerators(kinds: list[tuple[str, int]], expected: str) -> None:
    """A machine with accelerators is named after them, whatever its processor."""
    accelerators = [{"kind": kind, "count": count, "memory_bytes": None} for kind, count in kinds]
    assert machine.slug({"model": "Apple M2", "cores": 3}, accelerators) == expected


def test_steal_is_a_share_of_all_processors_time(tmp_path: Path) -> None:
    """Guests' time, the last two numbers, is part of user time and counts once."""
    noise = Noise(stat(tmp_path, 100, 0, 50, 800, 10, 0, 0, 40, 7, 7))
    stat(tmp_path, 160, 0, 70, 900, 10, 0, 0, 60, 99, 99)
    assert noise.measured()["steal_share"] == pytest.approx(20 / 200)


@pytest.mark.parametrize("lines", [None, "cpu  0 0 0 0 0 0 0 0 0 0\n", "cpu  1 2 3\n"], ids=["none", "zeros", "old"])
def test_unknown_steal_is_none(lines: str | None, tmp_path: Path) -> None:
    """A system without such numbers, or with numbers that do not change, has no share."""
    if lines is not None:
        (tmp_path / "stat").write_text(lines)
    assert Noise(tmp_path).measured()["steal_share"] is None


def test_load_is_read_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load is the average of one minute, before and after."""
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 9.0, 9.0))
    noise = Noise()
    monkeypatch.setattr(os, "getloadavg", lambda: (2.5, 9.0, 9.0))
    measured = noise.measured()
    assert (measured["load_before"], measured["load_after"]) == (1.5, 2.5)


def test_a_system_without_information_has_an_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc, affinity, load and release files the entries are None, without an error."""
    for name in ("sched_getaffinity", "getloadavg", "sysconf"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr("platform.freedesktop_os_release", dict)
    monkeypatch.setattr("shutil.which", lambda name: None)
    environment = machine.environment([], Noise(tmp_path), tmp_path)
    assert environment["cpu"] == {"model": None, "cores": os.cpu_count()}
    assert environment["ram_bytes"] is environment["virtualisation"] is None
    assert environment["noise"] == {"load_before": None, "load_after": None, "steal_share": None}


def test_a_hypervisor_is_detected(tmp_path: Path) -> None:
    """The processor's flags show a virtual machine; the model is the first processor's."""
    text = "processor : 0\nmodel name : Chip A\nflags : fpu hypervisor\n\nprocessor : 1\nmodel name : Chip B\n"
    (tmp_path / "cpuinfo").write_text(text)
    environment = machine.environment([], Noise(tmp_path), tmp_path)
    assert (environment["virtualisation"], environment["cpu"]["model"]) == ("virtual machine", "Chip A")
    (tmp_path / "cpuinfo").write_text(text.replace(" hypervisor", ""))
    assert machine.environment([], Noise(tmp_path), tmp_path)["virtualisation"] is None


def test_accelerators_are_counted_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPUs do not count; memory is what jax may use, unless a driver gives more."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    devices = [
        device("cpu", "cpu"),
        device("NVIDIA H200", limit=7),
        device("NVIDIA H200", limit=9),
        device("TPU v4", "tpu"),
    ]
    assert machine.accelerators(devices) == [
        {"kind": "NVIDIA H200", "count": 2, "memory_bytes": 7},
        {"kind": "TPU v4", "count": 1, "memory_bytes": None},
    ]
    assert machine.accelerators() == []


def test_the_driver_gives_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of the device's own kind counts, not the first; a driver that fails is ignored."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034'\necho 'NVIDIA H200, 143771'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.accelerators([device("NVIDIA H200", limit=7)]) == [H200]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert machine.accelerators([device("NVIDIA H200", limit=7)])[0]["memory_bytes"] == 7
