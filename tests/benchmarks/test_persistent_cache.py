"""Compiling with jax's persistent cache: it is timed, and leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks.measure import persistent_cache
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.plan import Record
from benchmarks.measure.programs import Program, Running
from benchmarks.measure.stages import Stages
from suite.subjects.protocol import SubjectError

SETTINGS = ("jax_enable_compilation_cache", "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


def settings() -> list[Any]:
    return [getattr(jax.config, name) for name in SETTINGS]


def running() -> Running:
    """Return a compiled program that updates its state."""
    program = Program(
        jitted=jax.jit(lambda state: (state + 1, state.sum()), donate_argnums=0),
        state=jax.numpy.arange(7.0),
        arguments=lambda state: (state,),
        after=lambda outputs: outputs,
    )
    return Running(program)


def test_it_is_timed_and_the_program_runs_on(tmp_path: Path) -> None:
    """The program that was compiled before still runs; jax's settings and its own cache are unchanged."""
    before, program = settings(), running()
    program.step()
    assert 0 < (program.cached_compile_seconds() or 0) < 60
    program.step()
    assert program.losses == [21, 28]
    assert settings() == before
    assert list(tmp_path.iterdir()) == []


def test_programs_from_the_cache_are_dropped() -> None:
    """The next call compiles: programs from the cache of jax 0.5.3 compute wrong numbers on the CPU."""
    jitted, arguments = jax.jit(lambda x: x * 3 + 1), (np.arange(7.0),)
    persistent_cache.cached_compile_seconds(jitted, arguments)
    stages = Stages({})
    jitted(*arguments)
    assert stages.programs == 1


def test_a_cache_that_keeps_nothing_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second compilation counts as cached only if it was found in the cache."""
    never = {"jax_persistent_cache_min_compile_time_secs": 1e6}
    monkeypatch.setattr(persistent_cache, "_ENABLED", {**persistent_cache._ENABLED, **never})
    assert running().cached_compile_seconds() is None


def measurement(record: Record, answer: Callable[..., Any], devices: int = 1) -> Measurement:
    """Return the turn of a process that answers with `answer`."""
    process: Any = SimpleNamespace(call=answer)
    cell: Any = SimpleNamespace(devices=devices)
    checkpoint: Any = None
    return Measurement(process, cell, checkpoint, record)


def test_the_first_process_of_a_cell_measures_it() -> None:
    record = Record()
    for _ in range(2):
        measurement(record, lambda method: {"cached_compile_seconds": 0.5}[method]).compile_cached()
    assert record.processes == [{"compile_cached_s": 0.5}, {}]


def test_over_several_devices_nothing_is_compiled_again() -> None:
    """It would take minutes and give the same as one device."""
    record = Record()
    measurement(record, {}.__getitem__, devices=8).compile_cached()
    assert record.processes == [{}]


def test_a_failure_of_it_keeps_the_measurement() -> None:
    """Memory may not suffice for a second compilation."""

    def fail(_: str) -> None:
        raise SubjectError("MemoryError", "as ordered")

    record = Record(outcome="measured")
    measurement(record, fail).compile_cached()
    assert (record.outcome, record.processes) == ("measured", [{}])
