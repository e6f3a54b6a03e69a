"""The parts of the benchmarks: cells and their order, stages, measurements of a call, processes."""

import ast
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks.cells.cells import FAMILIES, cells_of
from benchmarks.cells.expected import Expected, comparison
from benchmarks.cells.sizes import sizes
from benchmarks.gate.processes import WORKER as GATE_WORKER
from benchmarks.measure.harness import prepared
from benchmarks.measure.measuring import evict, measured
from benchmarks.measure.plan import Plan
from benchmarks.measure.process import ROOT, WORKER, environment_of, measuring
from benchmarks.measure.programs import number_of
from benchmarks.measure.stages import COMPILE, Stages
from fixtures.observations import FAST_CAMERAS
from fixtures.specs import tiny
from fixtures.streamed import checkpoints as streamed
from suite.subjects.process import memory
from suite.subjects.process.rpc import Server
from suite.subjects.protocol import OutOfMemoryError, ProcessKilledError, SubjectError

MIB = 1 << 20
LEAF = ("float32", [2], "a" * 64)


class Loader:
    def read(self) -> None:
        time.sleep(0.02)
        self.cast()

    def cast(self) -> None:
        time.sleep(0.01)


def test_the_id_of_a_cell_is_unique() -> None:
    known = [sizes(device, devices=[2, 8]) for device in ("cpu", "gpu")]
    cells = [cell for each in known for size in each.values() for cell in cells_of(size)]
    same = {cell.id: {other.options["batch"] for other in cells if other.id == cell.id} for cell in cells}
    assert all(len(batches) == 1 for batches in same.values())
    for size in sizes("gpu", devices=[2, 8]).values():
        ids = [cell.id for cell in cells_of(size)]
        assert len(set(ids)) == len(ids)


def test_each_family_has_its_own_cells() -> None:
    """pi0 is in no id, so that ids of older files keep their meaning; the checkpoint is the family's."""
    pi0, fast = ({cell.id: cell for cell in cells_of(sizes("cpu")["small"], family=name)} for name in FAMILIES)
    assert not pi0.keys() & fast.keys()
    assert {cell.model["family"] for cell in fast.values()} == {"pi0_fast"}
    assert [name for name in fast if name.startswith("sampling")] == [
        f"sampling/sample_tokens/small/pi0_fast/batch-1/tokens-{number}" for number in (64, 1)
    ]
    assert [cell.num_steps for cell in fast.values() if cell.workload == "sampling"] == [64, 1]
    assert {cell.num_steps for cell in pi0.values()} == {10}


def test_written_tokens_are_one_number_that_any_change_changes() -> None:
    tokens = np.arange(128, dtype=np.int32).reshape(2, 64)
    other = tokens.copy()
    other[1, 63] += 1
    assert number_of(tokens) == number_of(tokens.astype(np.float32)) != number_of(other)
    assert number_of(0.25) == 0.25


def test_a_prompt_that_asks_for_tokens_has_all_cameras_and_no_actions() -> None:
    job, seen = {"batch": 2, "seed": 0, "model": tiny("pi0_fast")}, dict[str, Any]()

    def sample(job: dict[str, Any]) -> Any:
        seen.update(job)
        return dict

    prepared(SimpleNamespace(bench_sample_tokens=sample), "sample_tokens", job)
    assert all(seen["inputs"][f"image_mask/{camera}"].all() for camera in FAST_CAMERAS)
    assert not seen["inputs"]["token_ar_mask"].any()
    assert 0 < seen["inputs"]["tokenized_prompt_mask"].sum() < seen["inputs"]["tokenized_prompt_mask"].size


def test_several_devices_add_the_steps_over_them() -> None:
    """Each device has as many samples as one device alone."""
    one, more = ({cell.id for cell in cells_of(sizes("cpu", devices=count)["small"])} for count in ([1], [1, 4]))
    assert more - one == {
        "step/train_step/small/lora/batch-4/devices-4-data",
        "step/train_step/small/lora/batch-4/devices-4-fsdp",
    }


def test_only_the_smoke_test_splits_a_cpu_into_devices() -> None:
    """Devices that share cores only prove that a program runs on them; with real devices, a run states their number."""
    assert {size.name: size.devices for size in sizes("cpu").values()} == {"tiny": (8,), "small": (), "full": ()}
    assert {size.devices for size in sizes("gpu").values()} == {()}


def test_every_layout_is_loaded_at_real_size() -> None:
    assert {cell.layout for cell in cells_of(sizes("cpu")["full"]) if cell.workload == "load"} == set(
        streamed.LAYOUTS
    ) - {"openpi_pytorch"}


def test_subjects_take_turns_within_a_pass() -> None:
    cells = cells_of(sizes("cpu")["tiny"])
    plan = Plan(["reference", "openpi"], cells, passes=3)
    pairs = list(zip(plan.turns[::2], plan.turns[1::2], strict=True))
    assert all(a.cell == b.cell and a.number == b.number and a.subject != b.subject for a, b in pairs)
    assert [a.number for a, _ in pairs] == sorted(a.number for a, _ in pairs)
    assert len(pairs) == 3 * len(cells)
    assert len({a.subject for a, _ in pairs}) == 2


def test_the_same_seed_gives_the_same_order() -> None:
    cells = cells_of(sizes("cpu")["tiny"])
    orders = [[str(turn) for turn in Plan(["reference"], cells, passes=2, seed=seed).turns] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    ("actual", "differs"),
    [
        ({"a": LEAF, "b": ("float32", [3], "c" * 64)}, []),
        ({"a": ("float32", [2], "b" * 64), "b": ("float32", [3], "c" * 64)}, ["a"]),
        ({"a": ("bfloat16", [2], "a" * 64), "b": ("float32", [3], "c" * 64)}, ["a"]),
        ({"a": LEAF}, ["b"]),
        ({"a": LEAF, "b": ("float32", [4], "c" * 64)}, ["b"]),
        ({"a": LEAF, "b": ("float32", [3], "c" * 64), "d": LEAF}, ["d"]),
    ],
    ids=["right", "value", "dtype", "missing", "shape", "left_over"],
)
def test_a_leaf_that_is_not_the_expected_one_is_named(actual: Expected, differs: list[str]) -> None:
    wanted: Expected = {"a": LEAF, "b": ("float32", [3], None)}
    result = comparison(wanted, actual)
    assert [text.partition(":")[0] for text in result["differing"]] == differs
    assert (result["expected"] == result["found"]) == (not differs)


def test_time_counts_for_the_innermost_stage() -> None:
    stages = Stages({"read": (f"{__name__}:Loader.read",), "cast": (f"{__name__}:Loader.cast",)})
    with stages.watched():
        Loader().read()
    assert 0.02 <= stages.seconds["read"] < 0.03 + stages.seconds["cast"]
    assert stages.seconds["cast"] >= 0.01
    stages.clear()
    Loader().read()
    assert not stages.seconds


def test_compiling_is_a_stage_of_its_own() -> None:
    stages = Stages({})
    with stages.watched():
        jax.jit(lambda x: x * 3 + 1)(np.arange(7.0))
    assert stages.seconds[COMPILE] > 0


def test_a_call_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(bytes(3 * MIB))

    def call() -> int:
        return len(file.read_bytes()) + int(np.ones(32 * MIB, np.uint8).sum())

    result, sample = measured(call)
    assert result == 35 * MIB
    assert 3 * MIB <= sample["read_bytes"] < 4 * MIB
    assert 30 * MIB <= sample["host_peak_bytes"] < 50 * MIB
    assert 0 < sample["wall_s"] < 10


def test_memory_that_was_given_back_does_not_count() -> None:
    measured(lambda: np.ones(64 * MIB, np.uint8).sum())
    assert measured(lambda: None)[1]["host_peak_bytes"] < 8 * MIB


def test_files_can_be_put_out_of_the_page_cache(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "data"
    file.parent.mkdir()
    file.write_bytes(bytes(8 * MIB))
    before = memory.number_in("io", "read_bytes:")
    evict(str(tmp_path))
    assert len(file.read_bytes()) == 8 * MIB
    after = memory.number_in("io", "read_bytes:")
    assert before is not None
    assert after is not None
    # In a folder in memory nothing can be evicted.
    assert after - before >= 8 * MIB or after == before


def test_a_failure_and_too_little_memory_and_a_killed_process_are_told_apart() -> None:
    with measuring(str(Path(__file__).with_name("skipping_harness.py")), environment_of("cpu")) as (process, _):
        job: dict[str, Any] = {"temperature": "warm", "dtype": "float32", "model": {}, "path": "", "batch": None}
        with pytest.raises(SubjectError, match="no such thing"):
            process.call("prepare", "paligemma_state", job)
        process.call("prepare", "lora_state", job)
        with pytest.raises(OutOfMemoryError, match="9 exabytes"):
            process.call("sample")
        process.kill()
        with pytest.raises(ProcessKilledError, match="killed"):
            process.call("sample")


@pytest.mark.parametrize("server", [WORKER, GATE_WORKER], ids=["benchmarks", "gate"])
def test_all_that_a_worker_imports_is_sent(server: Server) -> None:
    """Another interpreter has nothing of this project, so each module's imports from it are sent too."""
    assert server.place.partition(":")[0] in server.modules
    for module in server.modules:
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
        froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        imported = {str(node.module) for node in froms} | {
            f"{node.module}.{x.name}" for node in froms for x in node.names
        }
        own = {name for name in imported if (ROOT / f"{name.replace('.', '/')}.py").is_file()}
        assert own <= set(server.modules), module
