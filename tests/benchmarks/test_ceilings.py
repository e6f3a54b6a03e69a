"""Ceilings of a machine: figures that count correctly, and None where nothing was measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jsonschema
import numpy as np
import pytest

from benchmarks.machine import ceilings, parallel

SCHEMA = Path(__file__).parents[2] / "reports" / "schema" / "results.schema.json"
MIB = 2**20


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every measurement run once and take one second."""

    def once(queued: tuple[Callable[[], Any], int]) -> float:
        run, count = queued
        run()
        return 1.0 / count

    monkeypatch.setattr(ceilings, "_best_of", once)


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure of this machine is measured, has the magnitude of its unit, and leaves no file behind."""
    monkeypatch.setattr(ceilings, "_LONG_ENOUGH_S", 0)
    figures = ceilings.measure(tmp_path, megabytes=16)
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(figures, {**schema["$defs"]["ceilings"], "$defs": schema["$defs"]})
    assert list(tmp_path.iterdir()) == []
    assert figures["host_to_device_gbs"] is None
    for tflops in figures["matmul_tflops"].values():
        assert 1e-4 < tflops < 100
    for name in ("device_copy_gbs", "memcpy_gbs", "read_warm_gbs"):
        assert 0.05 < figures[name] < 2000, name


@pytest.mark.usefixtures("one_second")
def test_figures_count_what_they_say() -> None:
    """A product of n x n matrices is 2 n^3 FLOPs, device memory is read and written, host memory is copied once."""
    assert ceilings.matmul("float32") == pytest.approx(2 * 1024**3 / 1e12)
    assert ceilings.device_copy(4 * MIB) == pytest.approx(2 * 4 * MIB / 1e9)
    assert ceilings.host_to_device(4 * MIB) == pytest.approx(4 * MIB / 1e9)


@pytest.mark.parametrize(
    ("seconds", "best"), [((0.01, 0.02, 0.03), 4096**3 / 0.03), ((0.0001, 0.05, 0.06), 1024**3 / 0.0001)]
)
def test_products_grow_until_the_largest(seconds: tuple[float, ...], best: float, monkeypatch: Any) -> None:
    """A quick device gets larger products, up to the largest; the best of all counts, even if not the last."""
    times = iter(seconds)
    monkeypatch.setattr(ceilings, "_best_of", lambda queued: next(times))
    monkeypatch.setattr(ceilings, "_LARGEST_SIDE", 4096)
    assert ceilings.matmul("bfloat16") == pytest.approx(2 * best / 1e12)
    assert list(times) == []


def test_products_stop_growing_on_a_slow_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow device gets no product larger than the measurement needs."""
    times = iter([0.01, 0.2, 1.0])
    monkeypatch.setattr(ceilings, "_best_of", lambda queued: next(times))
    assert ceilings.matmul("float32") == pytest.approx(2 * 1024**3 / 0.01 / 1e12)
    assert list(times) == [1.0]


def test_device_copies_change_numbers_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timed copy cannot be optimized away: each call adds one to every number."""
    compiled = []
    jit = jax.jit

    def recorded(function: Callable[..., Any], **options: Any) -> Any:
        compiled.append((jit(function, **options), options))
        return compiled[-1][0]

    monkeypatch.setattr("jax.jit", recorded)
    ceilings.device_copy(4 * MIB)
    step, options = compiled[0]
    assert options == {"donate_argnums": 0}
    numbers = np.arange(5, dtype=np.int32)
    assert np.array_equal(step(jax.numpy.asarray(numbers)), numbers + 1)


def test_a_read_from_the_cache_is_not_cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk was not read, or the system does not count it, only the warm figure is measured."""
    for counter in (0, None):
        monkeypatch.setattr(ceilings, "_bytes_from_disk", lambda counter=counter: counter)
        warm, cold = ceilings._reads(tmp_path, MIB)
        assert cold is None
        assert warm > 0


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_all_bytes(threads: int) -> None:
    """The threads' parts cover all bytes exactly once, even where they do not divide evenly."""
    parts: list[tuple[int, int]] = []
    parallel.in_parallel(lambda start, end: parts.append((start, end)), 100, threads)
    assert sorted(byte for start, end in parts for byte in range(start, end)) == list(range(100))
    assert len(parts) == threads


def test_a_reader_reads_its_part(tmp_path: Path) -> None:
    """A reader continues over several blocks, and a file that ends early is an error, not a fast read."""
    file = tmp_path / "scratch"
    file.write_bytes(bytes(ceilings._BLOCK + 5))
    with file.open("rb") as opened:
        read = ceilings._reader(opened.fileno())
        read(3, ceilings._BLOCK + 5)
        with pytest.raises(OSError, match=f"ended at byte {ceilings._BLOCK + 5}; expected {ceilings._BLOCK + 6}"):
            read(3, ceilings._BLOCK + 6)


def test_a_failed_figure_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A figure whose measurement fails is None and prints the reason; the others are measured."""

    def fail(*_: object) -> float:
        raise RuntimeError("RESOURCE_EXHAUSTED")

    for name in ("memcpy", "matmul", "device_copy"):
        monkeypatch.setattr(ceilings, name, fail)
    figures = ceilings.measure(tmp_path, megabytes=1)
    assert figures["memcpy_gbs"] is figures["device_copy_gbs"] is None
    assert figures["matmul_tflops"] == {"bfloat16": None, "float32": None}
    assert figures["read_warm_gbs"] > 0
    assert capsys.readouterr().err.count("not measured: RuntimeError: RESOURCE_EXHAUSTED") == 4


def test_a_missing_folder_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is read without a place for the scratch file."""
    assert ceilings._or_none(ceilings._reads, tmp_path / "nowhere", MIB) is None
    assert "FileNotFoundError" in capsys.readouterr().err


def test_the_command_prints_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints what it measured in the given folder, and the devices that it ran on."""
    monkeypatch.setattr(ceilings, "measure", lambda folder: {"folder": folder.name})
    ceilings.main(["--folder", str(tmp_path), "--json"])
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert json.loads(line) == {"ceilings": {"folder": tmp_path.name}, "accelerators": []}
