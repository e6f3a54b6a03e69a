"""The rules of a benchmark's result: each is broken here by name, and the toy breaks none."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.results import consistency, rules
from benchmarks.results.validity import problems, valid_cells
from tests.reports import toy_benchmarks as toy
from tests.reports.toy_benchmarks import LOSSES, OTHER_SHA, SHA, Json

LEAF = "PaliGemma/llm/layers/attn/lora_a: expected float32[2, 3] 0123, found nothing"
WRONG_DIGEST = {"expected": SHA, "found": OTHER_SHA, "differing": [LEAF, "b: x", "c: x", "d: x"]}
SLOW_OPTIONS = {"temperature": "cold", "batch": None, "dtype": "bfloat16", "devices": 1}

TWO_DEVICES = toy.environment({"kind": "GPU", "count": 2, "memory_bytes": None})


def cold(disk_bytes: int | None) -> Json:
    """Return the fields of a cold load."""
    return {"options": SLOW_OPTIONS, "samples": toy.samples(1.0, disk_bytes=disk_bytes)}


def off(relative: float) -> list[float]:
    """Return the losses with a relative error in the last one."""
    return [*LOSSES[:-1], LOSSES[-1] * (1 + relative)]


def compiled(*compiles: int) -> list[Json]:
    return [{"compiles": count} for count in compiles]


def pair(make: Callable[..., Json], **changes: Any) -> Json:
    """Return the reference's valid cell, and openpi's with changes."""
    return toy.result(make(), make("openpi", **changes))


def half(**changes: Any) -> Json:
    """Return both steps in bfloat16."""
    dtype = {"dtype": "bfloat16"}
    return toy.result(toy.step(options=dtype), toy.step("openpi", options=dtype, **changes))


# From what is wrong to the rule that finds it, a result, and the beginning of the message ($ marks its end).
BROKEN: dict[str, tuple[str, Json, str]] = {
    "a loader that skips a leaf": (
        "loads_what_is_expected",
        pair(toy.load, digest=WRONG_DIGEST),
        f"the result is not the expected one: {LEAF}; b: x; c: x; and 1 more",
    ),
    "a merge that gives something else": (
        "loads_what_is_expected",
        pair(toy.lora, digest=WRONG_DIGEST | {"differing": []}),
        "the result is not the expected one: no array is named",
    ),
    "a loader that skips three leaves": (
        "loads_what_is_expected",
        pair(toy.load, digest=WRONG_DIGEST | {"differing": ["a: x", "b: x", "c: x"]}),
        "the result is not the expected one: a: x; b: x; c: x$",
    ),
    "equal digests of trees that differ": (
        "loads_what_is_expected",
        pair(toy.load, digest=WRONG_DIGEST | {"found": SHA}),
        "the result is not the expected one: ",
    ),
    "a load without a digest": ("loads_what_is_expected", pair(toy.load, digest=None), "expected a digest "),
    "a step without losses": ("losses_are_finite", pair(toy.step, losses=None), "expected losses, found none"),
    "a loss that is not a number": (
        "losses_are_finite",
        pair(toy.step, losses=[*LOSSES[:3], math.nan, *LOSSES[4:]]),
        "expected finite losses, found loss 3 to be nan",
    ),
    "a loss that is null": ("losses_are_finite", pair(toy.step, losses=[None, *LOSSES]), "expected finite losses"),
    "infinite actions": ("losses_are_finite", pair(toy.sampling, losses=[math.inf] * 12), "expected finite losses"),
    "fewer losses than samples": (
        "losses_are_as_many_as_samples",
        pair(toy.step, losses=LOSSES[:-1]),
        "expected a loss for each of 12 samples, found 11 losses",
    ),
    "steps that change nothing": (
        "losses_change",
        toy.result(toy.step(losses=[1.0] * 12)),
        "expected losses that change, found 12 times 1.0",
    ),
    "two steps that change nothing": (
        "losses_change",
        toy.result(toy.step(losses=[1.5] * 2, samples=toy.samples(1.0)[:2])),
        "expected losses that change, found 2 times 1.5",
    ),
    "a loss that is too high": (
        "losses_are_the_references",
        pair(toy.step, losses=off(2e-3)),
        "loss 11: expected 0.97 within 0.001 of it, found 0.97194",
    ),
    "a cold load that was warm": (
        "cold_loads_read_the_disk",
        pair(toy.load, **cold(359_999_999)),
        "expected a cold load to read 400,000,000 bytes from the disk, found 359,999,999; choose a folder on ",
    ),
    "a tiny cold load that was warm": (
        "cold_loads_read_the_disk",
        pair(toy.load, **cold(199_999_999), size="tiny"),
        "expected a cold load to read 400,000,000 bytes from the disk, found 199,999,999; ",
    ),
    "a cold load that nobody can prove": (
        "cold_loads_read_the_disk",
        pair(toy.load, **cold(None)),
        "expected the bytes a cold load read from the disk, found that this system does not report them",
    ),
    "a cold load without its bytes": (
        "cold_loads_read_the_disk",
        pair(toy.load, options=cold(0)["options"]),
        "expected the bytes a cold load read from the disk, ",
    ),
    "a loss that is too low": (
        "losses_are_the_references",
        pair(toy.step, losses=off(-2e-3)),
        "loss 11: expected 0.97 within 0.001 of it, found 0.96806",
    ),
    "a small loss that is too high": (
        "losses_are_the_references",
        toy.result(toy.step(losses=[x / 100 for x in LOSSES]), toy.step("openpi", losses=[x / 99 for x in LOSSES])),
        "loss 0: expected 0.01 within 0.001 of it, found 0.010101",
    ),
    "a loss that is too low in bfloat16": ("losses_are_the_references", half(losses=off(-0.03)), "loss 11: "),
    "another token, of many": (
        "losses_are_the_references",
        toy.result(toy.writing(), toy.writing("openpi", losses=[3_000_000_001] * 12)),
        "expected the tokens of the reference, found others",
    ),
    "other actions": ("losses_are_the_references", pair(toy.sampling, losses=[0.8] * 12), "loss 0: expected 0.7 "),
    "a dtype without a tolerance": (
        "losses_are_the_references",
        toy.result(toy.step(options={}), toy.step("openpi", options={})),
        "expected options.dtype float32 or bfloat16 to compare losses, found None",
    ),
    "more than the machine can": (
        "stays_below_the_ceiling",
        toy.result(toy.step(seconds=0.4)),
        "expected at most 0.1 TFLOP/s, as measured, found 0.124; recount the operations",
    ),
    "more than two devices of one CPU can": (
        "stays_below_the_ceiling",
        toy.result(toy.step(seconds=0.4, options={"dtype": "float32", "devices": 2})),
        "expected at most 0.1 TFLOP/s, as measured, found 0.124; recount the operations",
    ),
    "two compilations": (
        "compiles_once",
        pair(toy.step, processes=compiled(1, 2, 1)),
        "expected one compilation per process, found 2 in process 1",
    ),
    "a compilation that nobody counted": (
        "compiles_once",
        pair(toy.sampling, processes=[{}, {}, {}]),
        "expected one compilation per process, found None in process 0",
    ),
    "no compilation": ("compiles_once", pair(toy.step, processes=compiled(0, 1, 1)), "expected one compilation"),
    "nine samples": (
        "samples_are_enough",
        pair(toy.load, samples=toy.samples(1.0)[:9]),
        "expected at least 10 samples of 3 processes, found 9 of 3",
    ),
    "two processes": (
        "samples_are_enough",
        pair(toy.load, samples=2 * toy.samples(1.0, processes=2), processes=[{}, {}]),
        "expected at least 10 samples of 3 processes, found 16 of 2",
    ),
    "three samples of ten seconds": (
        "samples_are_enough",
        pair(toy.load, samples=toy.samples(10.0)[::4]),
        "expected at least 10 samples of 3 processes, found 3 of 3",
    ),
    "two long samples": (
        "samples_are_enough",
        pair(toy.load, samples=toy.samples(30.0)[3:5], processes=[{}, {}]),
        "expected at least 3 samples of 3 processes, found 2 of 2",
    ),
    "a smoke test of nothing": (
        "samples_are_enough",
        toy.result(toy.load(), toy.load("openpi") | {"size": "tiny", "samples": [], "processes": []}),
        "expected at least 1 samples of 1 processes, found 0 of 0",
    ),
    "a process without samples": (
        "samples_have_processes",
        pair(toy.load, processes=[{}] * 4),
        "expected samples of processes 0, 1, 2, 3, as listed, found 0, 1, 2",
    ),
    "samples of no process": (
        "samples_have_processes",
        pair(toy.load, processes=[]),
        "expected samples of processes none, as listed, found 0, 1, 2",
    ),
    "a stranger": (
        "subject_is_listed",
        toy.result(toy.load("lerobot")),
        "expected a subject of reference, openpi, found lerobot",
    ),
    "an unknown fixture": (
        "fixture_is_listed",
        pair(toy.load, fixture="full/orbax/float32"),
        "expected fixture full/orbax/float32 once in fixtures, found it 0 times",
    ),
    "two fixtures of one name": (
        "fixture_is_listed",
        toy.result(fixtures=[toy.fixture(), toy.fixture(bytes=1)]),
        f"expected fixture {toy.FIXTURE} once in fixtures, found it 2 times",
    ),
    "a cell twice": ("comes_once", toy.result(toy.load(), toy.load(seconds=0.5)), "expected the cell once, found it 2"),
    "other options": (
        "is_the_same_for_all",
        pair(toy.load, options=SLOW_OPTIONS),
        "expected the same options for all subjects, found {'temperature': ",
    ),
    "nothing read": (
        "is_the_same_for_all",
        pair(toy.load, fixture=None),
        f"expected the same fixture for all subjects, found None and {toy.FIXTURE}",
    ),
    "no reason": (
        "says_why_not",
        toy.result(toy.load(), toy.unmeasured(toy.load("openpi"), "absent", None)),
        "expected a reason for outcome absent, found none",
    ),
    "samples before memory ran out": (
        "says_why_not",
        pair(toy.load, outcome="out_of_memory", reason="no memory"),
        "expected no samples for outcome out_of_memory, found some",
    ),
    "another format": (
        "format_is_this",
        toy.result(schema_version=2),
        "expected pi0-compat/benchmark 1, found pi0-compat/benchmark 2",
    ),
    "no cell": ("has_measurements", toy.result() | {"cells": []}, "expected measured cells, found none"),
    "no cell that was measured": (
        "has_measurements",
        toy.result(toy.unmeasured(toy.load(), "failed")),
        "expected measured cells, found none",
    ),
    "half a commit": (
        "commit_is_known",
        toy.result(run=toy.run(commit="1a2b3c4")),
        "expected a commit of 40 hexadecimal digits, found 1a2b3c4",
    ),
    "a time that is not a number": (
        "numbers_are_finite",
        toy.result(toy.load(samples=[*toy.samples(1.0)[:11], toy.samples(math.nan)[11]])),
        "expected finite numbers, found another at cells[0].samples[11].wall_s; leave it out or write null",
    ),
}


@pytest.mark.parametrize(("rule", "result", "text"), BROKEN.values(), ids=BROKEN)
def test_a_result_that_breaks_a_rule_is_invalid(rule: str, result: Json, text: str) -> None:
    """The message has what was expected and found, and the cell, or the whole file, does not count."""
    broken = [problem for problem in problems(result) if problem.invalid and problem.rule == rule]
    assert broken
    assert f"{broken[-1].text}$".startswith(text)
    valid = valid_cells(result)
    assert all((cell["id"], cell["subject"]) != (broken[-1].cell, broken[-1].subject) for cell in valid)
    assert broken[-1].cell or not valid


def test_every_rule_is_broken_here() -> None:
    """A rule that no test breaks might be impossible to break."""
    known = [*rules.BREAKS, *consistency.OF_CELLS, *consistency.OF_RUNS]
    assert {rule.__name__ for rule in known} == {rule for rule, _, _ in BROKEN.values()}
    assert {rule.__name__ for rule in (*rules.NOTES, *consistency.NOTES)} == {rule for rule, _, _ in NOTED.values()}


def test_the_toy_breaks_none() -> None:
    """A good file has no problems, and all of its cells count."""
    assert problems(toy.result()) == []
    assert len(valid_cells(toy.result())) == 8


def test_a_fast_wrong_loader_does_not_count() -> None:
    """A loader that is ten times faster but skips a leaf is invalid; the reference beside it counts."""
    fast = toy.load("openpi", seconds=0.11, digest=WRONG_DIGEST)
    result = toy.result(toy.load(), fast)
    assert [cell["subject"] for cell in valid_cells(result)] == ["reference"]
    assert "invalid: load/lora_state/small/warm, openpi: the result is not" in str(problems(result)[0])


GOOD: dict[str, Json] = {
    "three long samples": pair(toy.load, samples=toy.samples(30.0)[::4]),
    "nearly the reference's losses": pair(toy.step, losses=off(0.9e-3)),
    "nearly its losses in bfloat16": half(losses=off(-0.019)),
    "losses of warm-up steps too": toy.result(toy.step(losses=[1.1, *LOSSES])),
    "samplings without a number": toy.result(toy.sampling(losses=None)),
    "just below the ceiling": toy.result(toy.step(seconds=0.5)),
    "two devices": toy.result(
        toy.step(options={"dtype": "float32", "devices": 2}, seconds=0.3), environment=TWO_DEVICES
    ),
    "a cold load": toy.result(toy.load(**cold(360_000_000))),
    "no ceiling for loads": toy.result(toy.load(), ceilings=toy.ceilings(matmul_tflops=None)),
    "nothing read": toy.result(toy.lora(fixture=None)),
}


@pytest.mark.parametrize("result", GOOD.values(), ids=GOOD)
def test_a_good_result_is_valid(result: Json) -> None:
    assert problems(result) == []


@pytest.mark.parametrize("outcome", ["absent", "failed", "out_of_memory"])
def test_an_unmeasured_cell_needs_only_a_reason(outcome: str) -> None:
    """A batch that does not fit is a result, and needs no validation."""
    result = toy.result(toy.step(), toy.unmeasured(toy.step("openpi"), outcome))
    assert problems(result) == []
    assert [cell["subject"] for cell in valid_cells(result)] == ["reference"]


NOTED: dict[str, tuple[str, Json, str]] = {
    "a dirty tree": ("tree_is_clean", toy.result(run=toy.run(dirty=True)), "dirty: "),
    "a smoke test": (
        "is_a_measurement",
        toy.result(toy.load(size="tiny", samples=toy.samples(0.5)[:1], processes=[{}])),
        "a smoke test: ",
    ),
    "no reference": ("losses_are_compared", toy.result(toy.step("openpi")), "losses not compared with the reference's"),
    "a reference that failed": (
        "losses_are_compared",
        toy.result(toy.load(), toy.unmeasured(toy.step(), "failed"), toy.step("openpi")),
        "losses not compared with the reference's",
    ),
    "a reference that is wrong": (
        "losses_are_compared",
        toy.result(toy.step(losses=[1.0] * 12), toy.step("openpi")),
        "losses not compared with the reference's",
    ),
    "faster than reading": (
        "takes_as_long_as_reading",
        toy.result(toy.load(seconds=0.05)),
        "faster than a warm read: 0.0505 s, a read takes 0.1 s",
    ),
    "no count of operations": ("ceiling_is_known", toy.result(toy.step(values={})), "not compared with the ceiling"),
    "no ceiling": (
        "ceiling_is_known",
        toy.result(toy.step(), ceilings=toy.ceilings(matmul_tflops=None)),
        "not compared with the ceiling",
    ),
}


@pytest.mark.parametrize(("rule", "result", "text"), NOTED.values(), ids=NOTED)
def test_a_doubtful_result_gets_a_note(rule: str, result: Json, text: str) -> None:
    """A note does not invalidate a cell."""
    notes = [problem for problem in problems(result) if problem.rule == rule]
    assert notes
    assert notes[0].text.startswith(text)
    assert str(notes[0]).startswith("note: ")
    assert not any(problem.invalid for problem in notes)
