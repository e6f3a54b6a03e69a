"""Turns of a plan as pytest items. ``python -m benchmarks`` supplies a plan; plain pytest runs each tiny cell once."""

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from benchmarks.cells.checkpoints import checkpoint_of
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.plan import PLAN, Plan, Turn, smoke
from benchmarks.measure.process import environment_of, measuring
from suite.session.compiling import compile_quickly
from suite.session.results import without_folders
from suite.subjects.protocol import CallError, OutOfMemoryError, ProcessKilledError

_TURN = "measurement"


def pytest_configure(config: pytest.Config) -> None:
    """Use the smallest plan if there is none; then nothing has to be fast."""
    if PLAN not in config.stash:
        config.stash[PLAN] = smoke()
        compile_quickly()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make an item for each turn of the workload that a test is named after."""
    if _TURN in metafunc.fixturenames:
        workload = metafunc.function.__name__.removeprefix("test_")
        turns = [turn for turn in metafunc.config.stash[PLAN].turns if turn.cell.workload == workload]
        metafunc.parametrize(_TURN, turns, ids=str, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort items in the plan's order, not by file, so that compared turns run side by side."""
    places = {turn: place for place, turn in enumerate(config.stash[PLAN].turns)}
    others = [item for item in items if _TURN not in getattr(item, "fixturenames", ())]
    # pytest makes a placeholder item for a workload without turns.
    turns = [item for item in items if _turn_of(item) in places]
    items[:] = [*others, *sorted(turns, key=lambda item: places[_turn_of(item)])]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Record why a turn fails. Running out of memory is a result, not a failure."""
    turn = _turn_of(pyfuncitem)
    if turn is None:
        return (yield)
    record = pyfuncitem.config.stash[PLAN].record(turn)
    try:
        return (yield)
    except (OutOfMemoryError, ProcessKilledError) as error:
        record.end("out_of_memory", without_folders(str(error)))
        pytest.skip(f"out of memory: {error}")
    except CallError as error:
        record.end("failed", without_folders(str(error)))
        raise


@pytest.fixture
def measurement(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measurement]:
    """Start the turn's subject in a fresh process."""
    plan: Plan = request.config.stash[PLAN]
    turn: Turn = request.param
    record = plan.record(turn)
    if record.outcome in ("out_of_memory", "failed"):
        pytest.skip(f"an earlier pass ended with: {record.reason}")
    checkpoint = checkpoint_of(turn.cell, plan.folder or tmp_path_factory.getbasetemp() / "checkpoints")
    size, devices = turn.cell.size, turn.cell.devices
    environment = environment_of(plan.device, devices=devices, quickly_compiled=size.is_smoke)
    with measuring(turn.asked_as, environment) as (process, description):
        plan.descriptions[turn.subject] = description
        if turn.cell.operation not in description["operations"]:
            record.reason = f"{turn.subject} does not offer {turn.cell.operation}"
            pytest.skip(record.reason)
        yield Measurement(process, turn.cell, checkpoint, record)


def _turn_of(item: pytest.Item) -> Any:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(_TURN) if callspec else None
