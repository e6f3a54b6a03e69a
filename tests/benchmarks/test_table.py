# ruff: noqa: RUF001 - an en dash
"""The tables of a result: valid cells have numbers, others a reason, and everything fits a terminal."""

import io
from typing import Any

import pytest
from rich.console import Console

from benchmarks.results.summaries import Ratio
from benchmarks.results.table import print_tables, verdict
from benchmarks.results.table_columns import number
from tests.reports import toy_benchmarks as toy
from tests.reports.toy_benchmarks import OTHER_SHA, SHA, Json

WRONG = {"expected": SHA, "found": OTHER_SHA, "differing": ["a/lora_a: expected float32[2] 01, found nothing"]}
GPU = {"matmul_tflops": {"bfloat16": 0.08, "float32": None}}


def printed(result: Json, datasheet: dict[str, float] | None = None, width: int = 100) -> list[str]:
    """Return the printed lines, without trailing blanks."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_tables(result, console, datasheet)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def table(lines: list[str], title: str) -> list[str]:
    """Return the lines from a title to the next blank line."""
    start = lines.index(title)
    return lines[start : lines.index("", start)]


def row(lines: list[str], title: str, name: str) -> list[str]:
    """Return the words of the first row of that name."""
    return next(line.split() for line in table(lines, title) if line.split()[:1] == [name])


def one(cell: Json, **changes: Any) -> Json:
    """Return a result of the reference alone."""
    result = toy.result(cell, **changes)
    return result | {"subjects": {"reference": result["subjects"]["reference"]}}


def test_the_head_says_what_ran_where_and_when() -> None:
    lines = printed(toy.result(run=toy.run(dirty=True)))
    assert lines[0] == "pi0-compat benchmarks · cpu-2-core-toy · commit 1a2b3c4 (dirty) · 2026-11-22 08:00 UTC"
    assert lines[1] == "reference 1a2b3c4: jax 0.10.2, Python 3.11.7, cpu: cpu"
    assert lines[2] == "openpi 15a9616: jax 0.10.2, Python 3.11.7, cpu: cpu"
    assert lines[3].startswith(
        "This machine, measured: product 0.0500 bfloat16 / 0.100 float32 TFLOP/s, device copy 8.00"
    )
    assert "(dirty)" not in printed(toy.result())[0]


def test_a_load_has_times_and_peaks() -> None:
    """A load has median, range, CPU time, and the peak in GB and relative to the checkpoint's bytes."""
    lines = printed(one(toy.load(seconds=2.0)))
    assert row(lines, "load, small", "cell") == ["cell", "n", "s", "range", "s", "GB", "file"]
    assert row(lines, "load, small", "lora_state/warm")[1:] == ["12/3", "2.02", "1.98..2.10", "3.03", "0.500", "1.25x"]


def test_one_sample_has_no_range() -> None:
    smoke = toy.load(id="load/restore/tiny/warm", size="tiny", samples=toy.samples(1.0)[:1], processes=[{}])
    words = row(printed(one(smoke)), "load, tiny (a smoke test)", "restore/warm")
    assert words[1:] == ["1/1", "1.00", "1.50", "0.500", "1.25x"]


def test_a_peak_is_the_highest() -> None:
    """One sample that nearly fills the memory matters."""
    samples = toy.samples(1.0, device_peak_bytes=2_000_000_000)
    samples[5] |= {"host_peak_bytes": 800_000_000, "device_peak_bytes": 3_500_000_000}
    assert row(printed(one(toy.load(samples=samples))), "load, small", "lora_state/warm")[-3:] == [
        "0.800",
        "2.00x",
        "3.50",
    ]


def test_where_the_time_goes() -> None:
    """The table has the stages that an implementation names, and the rest."""
    lines = printed(one(toy.load(seconds=2.0)))
    title = "load, small: where the time goes, s"
    assert row(lines, title, "cell") == ["cell", "read", "cast", "rest"]
    assert row(lines, title, "lora_state/warm") == ["lora_state/warm", "1.00", "0.400", "0.620"]
    assert not any("where the time goes" in line for line in printed(one(toy.lora())))


def test_a_stage_that_a_subject_lacks_is_not_zero() -> None:
    other = toy.load("openpi", samples=toy.samples(1.0, stages={"decode": 0.25}))
    lines = printed(toy.result(toy.load(), other))
    assert row(lines, "load, small: where the time goes, s", "openpi") == ["openpi", "–", "–", "0.250", "0.760"]


def test_a_step_has_rates_and_shares() -> None:
    """For an unknown device the shares are of the measured ceiling."""
    lines = printed(one(toy.step()))
    assert row(lines, "step, small", "cell") == ["cell", "n", "s", "s", "/s", "/s", "GB", "of", "run", "of", "run"]
    expected = ["12/3", "1.01", "1.05", "1.98", "198", "0.500", "49.5", "59.4"]
    assert row(lines, "step, small", "lora/batch-2")[1:] == expected
    assert any("no datasheet is known for this device" in line for line in lines)


def test_a_known_device_has_two_shares() -> None:
    """The shares are of the datasheet and of the run, each for all devices; a dtype without a datasheet has one."""
    options = {"dtype": "bfloat16", "devices": 2}
    two = toy.environment({"kind": "GPU", "count": 2, "memory_bytes": None})
    result = one(toy.step(options=options), ceilings=toy.ceilings(**GPU), environment=two)
    assert row(printed(result, {"bfloat16": 0.1}), "step, small", "lora/batch-2")[-2:] == ["24.8/30.9", "29.7/37.1"]
    assert row(printed(result, {"float32": 0.1}), "step, small", "lora/batch-2")[-2:] == ["–/30.9", "–/37.1"]
    assert not any("no datasheet" in line for line in printed(result, {"bfloat16": 0.1}))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0, "0"),
        (0.04124, "0.0412"),
        (1.0, "1.00"),
        (99.96, "100"),
        (999.4, "999"),
        (999.6, "1,000"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    """No digit is lost to rounding, and no number has an exponent."""
    assert number(value) == text


def test_an_unknown_number_is_a_dash() -> None:
    """Without a count of operations, batch, checkpoint or CPU time, the other numbers are shown."""
    unknown = {"cpu_s": None, "host_peak_bytes": None}
    cells = [toy.step(), toy.step("openpi", values={}), toy.load()]
    cells.append(toy.load("openpi", fixture=None, samples=[sample | unknown for sample in toy.samples(1.0)]))
    lines = printed(toy.result(*cells[:2], *[cell | {"fixture": None} for cell in cells[2:]]))
    assert row(lines, "step, small", "openpi")[1:] == ["12/3", "1.01", "1.05", "–", "–", "0.500", "–", "–"]
    assert row(lines, "load, small", "reference")[1:] == ["12/3", "1.01", "0.990..1.05", "1.52", "0.500"]
    assert row(lines, "load, small", "openpi")[1:] == ["12/3", "1.01", "0.990..1.05", "–", "–"]
    words = row(lines, "load, small: openpi next to the reference", "lora_state/warm")
    assert words[:5] == ["lora_state/warm", "1.00x", "as", "long", words[4]]
    assert len(words) == 5


def test_a_late_step_is_the_95th_percentile() -> None:
    samples = [sample | {"wall_s": 1 + place / 100} for place, sample in enumerate((toy.samples(1.0) * 9)[:101])]
    losses = [1 + place / 100 for place in range(101)]
    assert row(printed(one(toy.step(samples=samples, losses=losses))), "step, small", "lora/batch-2")[2:4] == [
        "1.50",
        "1.95",
    ]


def test_before_the_first_call() -> None:
    """Compiling from jax's persistent cache was timed in the first process only."""
    title = "step, small: before the first call, s"
    lines = printed(one(toy.step()))
    assert row(lines, title, "cell") == ["cell", "trace", "lower", "compile", "from", "cache", "first", "call"]
    assert row(lines, title, "lora/batch-2")[1:] == ["1.00", "0.500", "6.00", "0.700", "9.00"]


def test_a_backend_without_a_cache_lacks_its_column() -> None:
    step = toy.step()
    step["processes"][0]["compile_cached_s"] = None
    words = row(printed(one(step)), "step, small: before the first call, s", "cell")
    assert words == ["cell", "trace", "lower", "compile", "first", "call"]


def spread() -> list[Json]:
    """Return steps of one device, and of four that take twice as long together."""
    options = {"dtype": "float32", "lora": True, "batch": 2, "devices": 1, "spread": False}
    many = toy.step(options=options | {"batch": 8, "devices": 4, "spread": True}, samples=toy.samples(2.0))
    return [toy.step(options=options), many | {"id": "step/train_step/small/lora/batch-8/devices-4-fsdp"}]


def test_several_devices_are_compared_with_one() -> None:
    """Rates and efficiencies are shown; devices of one CPU have a note that they share its cores."""
    title, shares = "step, small: over several devices", "The devices are emulated on one CPU and share its cores"
    lines = printed(one(spread()[0]) | {"cells": spread()})
    rows = [line.split() for line in table(lines, title)[3:5]]
    assert rows == [
        ["reference", "train_step/lora", "1", "alone", "1.98", "100", "%"],
        ["reference", "train_step/lora", "4", "fsdp", "3.96", "50", "%"],
    ]
    assert any(line.startswith(shares) for line in lines)
    accelerated = {"environment": toy.environment({"kind": "GPU", "count": 4, "memory_bytes": None})}
    lines = printed(one(spread()[0]) | {"cells": spread()} | accelerated)
    assert title in lines
    assert not any(line.startswith(shares) for line in lines)


def test_one_device_has_no_table_of_several() -> None:
    assert not any("over several devices" in line for line in printed(one(toy.step())))


def test_every_workload_and_size_has_a_table() -> None:
    lines = printed(
        one(toy.load())
        | {"cells": [toy.load(), *toy.four("reference"), toy.load(id="load/restore/tiny/warm", size="tiny")]}
    )
    titles = [line for line in lines if line.endswith(("small", "tiny (a smoke test)"))]
    assert titles == ["load, tiny (a smoke test)", "load, small", "lora, small", "step, small", "sampling, small"]


def test_subjects_stand_below_their_cell() -> None:
    """The reference comes first, wherever it is in the file."""
    lines = table(printed(toy.result(toy.load("openpi"), toy.load())), "load, small")
    assert [line.split()[0] for line in lines[4:]] == ["lora_state/warm", "reference", "openpi"]


def test_two_subjects_have_a_ratio() -> None:
    """The ratio is in words, with an interval, followed by those of CPU time and peaks."""
    other = toy.load("openpi", 2.9)
    for sample in other["samples"]:
        sample["host_peak_bytes"] *= 3
    lines = printed(toy.result(toy.load(), other))
    words = row(lines, "load, small: openpi next to the reference", "lora_state/warm")
    assert words[1:3] + words[-2:] == ["2.90x", "slower", "2.90x", "3.00x"]
    low, high = map(float, words[3].split(".."))
    assert 2.5 < low < 2.9 < high < 3.3


@pytest.mark.parametrize(
    ("ratio", "words"),
    [((2.7, 2.9, 3.1), "2.90x slower"), ((0.4, 0.5, 0.6), "2.00x faster"), ((0.9, 1.1, 1.2), "1.10x as long")],
)
def test_a_ratio_in_words(ratio: tuple[float, float, float], words: str) -> None:
    """Where the interval contains 1, neither is called faster."""
    assert verdict(Ratio(*ratio)) == words


OUTCOMES: dict[str, tuple[Json, str, str]] = {
    "invalid": (
        toy.load("openpi", 0.11, digest=WRONG),
        "openpi  invalid¹",
        "¹ invalid: the result is not the expected one: a/lora_a: expected float32[2] 01, found nothing",
    ),
    "out of memory": (
        toy.unmeasured(toy.load("openpi"), "out_of_memory", "[gpu:0] 13 GB"),
        "openpi  out of memory¹",
        "¹ out of memory: [gpu:0] 13 GB",
    ),
    "failed": (toy.unmeasured(toy.load("openpi"), "failed", "KeyError"), "openpi  failed¹", "¹ failed: KeyError"),
    "absent": (toy.unmeasured(toy.load("openpi"), "absent", "no loader"), "openpi  –¹", "¹ absent: no loader"),
}


@pytest.mark.parametrize(("cell", "shown", "why"), OUTCOMES.values(), ids=OUTCOMES)
def test_an_invalid_cell_has_a_reason_and_no_numbers(cell: Json, shown: str, why: str) -> None:
    """None of its numbers and no ratio appear: a fast wrong loader is not fast."""
    lines = printed(toy.result(toy.load(), cell))
    assert [line.strip() for line in lines if line.strip().startswith("openpi ")][1:] == [shown]
    assert why in [line.strip() for line in lines]
    assert not any("next to the reference" in line or "0.111" in line for line in lines)


def test_a_reason_is_printed_once() -> None:
    """Cells with the same reason share its footnote."""
    cells = [
        toy.unmeasured(toy.lora("openpi", id=f"lora/{name}/small"), "absent", "none") for name in ("fold", "merge")
    ]
    lines = printed(toy.result(toy.lora(), *cells))
    assert [line.strip() for line in lines].count("openpi  –¹") == 2
    assert [line.strip() for line in lines].count("¹ absent: none") == 1


def test_nothing_of_an_invalid_file_counts() -> None:
    """An error of the whole file is printed instead of numbers."""
    lines = printed(toy.result(schema_version=2))
    why = "expected pi0-compat/benchmark 1, found pi0-compat/benchmark 2"
    assert f"Invalid: {why}" in lines
    assert f" ¹ invalid: {why}" in lines
    assert not any("12/3" in line for line in lines)


def test_notes_are_printed_once() -> None:
    lines = printed(toy.result(*toy.four("openpi"), run=toy.run(dirty=True)))
    assert "Note: dirty: files differed from the commit" in lines
    assert "Note: losses not compared with the reference's (2 cells)" in lines


def crowded() -> Json:
    """Return a result with the longest names, the largest numbers, a device with memory, a batch that does not fit."""
    cells = []
    for name in ("reference", "openpi"):
        for layout in ("hugging_face_state/full/warm", "paligemma_state/full/cold"):
            samples = toy.samples(1234.5, device_peak_bytes=140_000_000_000)
            cells.append(toy.load(name, id=f"load/{layout}", operation=layout, size="full", samples=samples))
        for variant in ("lora/batch-128", "lora/batch-128/devices-8-fsdp"):
            samples = toy.samples(0.1234, device_peak_bytes=140_000_000_000)
            counted = {
                "flops_per_sample": 88e12,
                "hardware_flops_per_sample": 110e12,
                "tokens_per_sample": 867,
                "batch": 8,
            }
            step = toy.step(name, samples=samples, values=counted, size="full", id=f"step/train_step/full/{variant}")
            cells.append(step)
    cells.append(toy.unmeasured(toy.step("openpi", id="step/train_step/full/batch-8", size="full"), "out_of_memory"))
    return toy.result(*cells, ceilings=toy.ceilings(matmul_tflops={"bfloat16": 9e3, "float32": 9e3}))


def test_it_fits_a_terminal() -> None:
    """In a hundred columns no number is truncated and no name is broken."""
    lines = printed(crowded(), {"float32": 8e3})
    assert max(map(len, lines)) <= 100
    assert not any("…" in line for line in lines)
    names = ("hugging_face_state/warm", "lora/batch-128", "lora/batch-128/8-fsdp", "  openpi  out of memory¹")
    assert all(name in lines for name in names)
    assert row(lines, "step, full", "reference")[-2:] == ["70.6/62.8", "88.3/78.5"]
