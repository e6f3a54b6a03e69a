"""A plan: fits or not, the largest batch, remedies and floors, from answers that are compiled once and kept."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pi0_compat.planning.answers import PlanError, ask
from pi0_compat.planning.devices import device
from pi0_compat.planning.plan import Plan, plan
from pi0_compat.planning.question import Question
from pi0_compat.storage.download import CACHE_VARIABLE

TINY = "pi0_libero_low_mem_finetune_tiny"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache for all tests of this file."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="module")
def planned(cache: Path) -> Plan:
    return plan(TINY, batch=2)


def test_needs_are_what_is_compiled(planned: Plan) -> None:
    """The state is the sum of its rows, the peak is more, and a larger batch needs more."""
    assert [need.batch for need in planned.needs] == [1, 2]
    first, asked = planned.needs
    assert planned.need is asked
    assert asked.resident == sum(row["device_bytes"] for row in planned.resident)
    assert first.peak > first.resident + first.temporary / 2
    assert asked.temporary > first.temporary > planned.gradients


def test_everything_fits_a_tiny_model(planned: Plan) -> None:
    """A tiny model fits all devices, larger ones with larger batches, and no floor is above what little it computes."""
    assert all(each.fits and each.share < 0.01 for each in planned.verdicts)
    batches = [each.largest_batch or 0 for each in planned.verdicts[:-1]]
    assert batches == sorted(batches)
    assert all(0 < (each.floor_s or 1e-9) < 1e-3 for each in planned.verdicts)


def test_remedies_of_adapters(planned: Plan) -> None:
    """What has adapters can freeze its image encoder and be spread, and nothing was compiled for it."""
    assert [each.name for each in planned.remedies] == ["frozen vision encoder", "FSDP over 2 devices"]
    assert planned.remedies[0].state_saved > 0
    assert all(each.peak is None for each in planned.remedies)


@pytest.mark.usefixtures("planned")
def test_a_second_time_nothing_is_started(monkeypatch: pytest.MonkeyPatch, planned: Plan) -> None:
    """The same plan comes from the cache, without a process and without jax."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert plan(TINY, batch=2) == planned


def test_a_question_is_kept_under_all_that_decides_it() -> None:
    """Any other field is another key."""
    keys = {
        Question(config=TINY, **changed).key
        for changed in (
            {},
            {"batch": 2},
            {"devices": 2},
            {"purpose": "serving"},
            {"lora": False},
            {"remat": "cheap"},
            {"frozen_dtype": "float32"},
            {"freeze_vision": True},
        )
    }
    assert len(keys) == 8
    assert Question.from_json(Question(config=TINY, batch=3).to_json()) == Question(config=TINY, batch=3)


def test_what_the_compiler_says_is_reported(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """A process that fails is an error with its last line, and nothing is kept."""
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nRuntimeError: out of registers\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    before = sorted(cache.rglob("*"))
    with pytest.raises(PlanError, match="could not be compiled: RuntimeError: out of registers"):
        ask(Question(config=TINY, batch=77))
    assert sorted(cache.rglob("*")) == before


def test_without_jax(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Without jax the error has the line that installs it."""
    failed = subprocess.CompletedProcess([], 1, "", "ModuleNotFoundError: No module named 'jax'\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ImportError, match=r"pip install 'pi0-compat\[jax\]'"):
        ask(Question(config=TINY, batch=78))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": "pi0_libbero"}, "closest names are .*pi0_libero"),
        ({"config": TINY, "batch": 0}, "batch is 0"),
        ({"config": TINY, "device": "abacus"}, "no device 'abacus'"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**options)


def test_a_device_that_is_too_small() -> None:
    """What a program can have is less than the device's memory."""
    assert device("RTX 4090").usable_bytes == int(0.95 * 24 * 2**30)
