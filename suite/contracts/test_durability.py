"""Saved checkpoints load as they were saved, whatever happens to the process, the disk and the files in between."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import pytest

from fixtures import content
from fixtures.damage import silent_damage
from fixtures.damage.file_accidents import ACCIDENTS, damages
from fixtures.specs import ModelSpec, tiny
from suite.contracts.checkpoints import Checkpoint
from suite.contracts.process_limits import full_disk
from suite.contracts.training_runs import FULL, Runs, served
from suite.session.registry import contract
from suite.subjects.process.elsewhere import Elsewhere, elsewhere
from suite.subjects.protocol import Subject, Unsupported
from suite.writing.asserts import assert_same_bits, refused
from suite.writing.cases import from_checkpoint

WEIGHT = "action_in_proj/kernel"
# 45 MB, so that the save lasts long enough to be killed halfway.
LARGE: ModelSpec = {**tiny(), "vocab_size": 200_000}
DAMAGES = [silent_damage.silent_zeros, silent_damage.last_bit, silent_damage.reversed_values]

silently = pytest.mark.parametrize("damage", DAMAGES, ids=[damage.__name__ for damage in DAMAGES])


def wait_for(happened: Callable[[], bool]) -> None:
    """Poll every 0.2 ms until something has happened, for at most a minute."""
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "nothing was written for a minute"
        time.sleep(0.0002)


@contract(source="docs/bugs.md#e4; openpi #566", needs=("save", "restore"))
@pytest.mark.parametrize("moment", ["first_file", "target"])
def test_killed_save_leaves_whole_checkpoints(subject: Subject, tmp_path: Path, moment: str) -> None:
    """A save that is killed (when its first file, or its target, appears) leaves no partial checkpoint at its target
    and does not change earlier ones; saving there again works, whatever it left next to the target."""
    params = content.params(LARGE)
    earlier, target = tmp_path / "earlier", tmp_path / "target"
    subject.save(LARGE, params, str(earlier))
    with elsewhere(subject) as process:
        process.start("save", LARGE, params, str(target))
        wait_for({"first_file": lambda: len([*tmp_path.iterdir()]) > 1, "target": target.exists}[moment])
        process.kill()
    if not target.exists():
        subject.save(LARGE, params, str(target))
    assert_same_bits(subject.restore(str(target), None), params)
    assert_same_bits(subject.restore(str(earlier), None), params)


@contract(source="POSIX write: ENOSPC", needs=("save", "restore"))
def test_full_disk_loses_nothing(
    subject: Subject, eight_devices: Elsewhere, base_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """A save that runs out of disk space raises, leaves nothing behind and does not change other checkpoints; once
    there is space, it works."""
    spec, _, params = base_checkpoint.spec, base_checkpoint.path, base_checkpoint.params
    subject.save(spec, params, str(tmp_path / "earlier"))
    with full_disk(eight_devices.pid), refused():
        eight_devices.save(spec, params, str(tmp_path / "target"))
    assert [file.name for file in tmp_path.iterdir()] == ["earlier"]
    assert_same_bits(subject.restore(str(tmp_path / "earlier"), None), params)
    eight_devices.save(spec, params, str(tmp_path / "target"))
    assert_same_bits(subject.restore(str(tmp_path / "target"), None), params)


@contract(source="many processes read a checkpoint on a shared disk at once", needs=("restore",))
def test_two_readers_agree(subject: Subject, eight_devices: Elsewhere, base_checkpoint: Checkpoint) -> None:
    """Two processes that read a checkpoint at the same time both succeed, every time."""
    for _ in range(3):
        eight_devices.start("restore", base_checkpoint.path, None)
        # Several reads, since the other process may start late.
        for _ in range(8):
            assert_same_bits(subject.restore(base_checkpoint.path, None), base_checkpoint.params)
        assert_same_bits(eight_devices.result(), base_checkpoint.params)


@contract(source="docs/bugs.md#c18; openpi restores 200 zeroed bytes", needs=("save", "restore"))
@pytest.mark.parametrize("accident", ACCIDENTS)
def test_damaged_file_is_refused_or_harmless(
    subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, accident: str
) -> None:
    """Whichever file of a saved checkpoint is damaged, the checkpoint is refused or loads bit for bit as it was saved;
    at least one damage leads to a refusal."""
    saved, refusals = tmp_path / "saved", 0
    subject.save(base_checkpoint.spec, base_checkpoint.params, str(saved))
    files = sorted(file for file in saved.rglob("*") if file.is_file())
    ways = [(file.relative_to(saved), damage) for file in files for damage in damages(accident, file)]
    for n, (file, damage) in enumerate(ways):
        shutil.copytree(saved, damaged := tmp_path / str(n))
        damage(damaged / file)
        try:
            restored = subject.restore(str(damaged), None)
        except Unsupported:
            raise
        except Exception:  # noqa: BLE001 - any error counts as a refusal
            refusals += 1
        else:
            assert_same_bits(restored, base_checkpoint.params)
    assert refusals


@contract(source="docs/bugs.md#c18", needs=("save", "restore"))
@silently
@pytest.mark.parametrize("dtype", [None, "bfloat16"], ids=["as_stored", "cast"])
def test_other_numbers_are_refused_by_name(
    subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, damage: Callable, dtype: str | None
) -> None:
    """A saved parameter whose numbers have changed is refused by its name, even if every file decodes and even if the
    requested cast rounds the difference away."""
    subject.save(base_checkpoint.spec, base_checkpoint.params, str(tmp_path / "params"))
    damage(tmp_path / "params", WEIGHT)
    with refused(WEIGHT, str(tmp_path / "params")):
        subject.restore(str(tmp_path / "params"), dtype)


@contract(source="docs/bugs.md#c18", needs=("save", "load", "openpi"))
@silently
def test_other_numbers_are_not_loaded(
    subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, damage: Callable
) -> None:
    """A saved checkpoint whose numbers have changed does not load into a model for training."""
    subject.save(base_checkpoint.spec, base_checkpoint.params, str(tmp_path / "params"))
    damage(tmp_path / "params", WEIGHT)
    with refused(WEIGHT):
        subject.load(base_checkpoint.spec, from_checkpoint(tmp_path / "params"), seed=0)


@contract(source="docs/bugs.md#c18", needs=("save", "openpi", "load_for_inference"))
@silently
def test_other_numbers_are_not_served(
    subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, damage: Callable
) -> None:
    """A saved checkpoint whose numbers have changed does not load into a model for serving."""
    subject.save(base_checkpoint.spec, base_checkpoint.params, str(tmp_path / "params"))
    damage(tmp_path / "params", WEIGHT)
    with refused(WEIGHT):
        subject.load_for_inference(base_checkpoint.spec, str(tmp_path / "params"))


@contract(source="docs/bugs.md#c18", needs=("train", "restore"))
def test_other_numbers_of_a_run_are_not_restored(subject: Subject, runs: Runs, tmp_path: Path) -> None:
    """A step of a training run in which a parameter's numbers have changed is not restored; the error names it."""
    runs.saved(FULL, tmp_path)
    silent_damage.last_bit(Path(served(tmp_path)), WEIGHT)
    with refused(WEIGHT):
        subject.restore(served(tmp_path), None)


@contract(source="docs/bugs.md#c18", needs=("train", "resume", "openpi"))
def test_other_numbers_are_not_trained_on(subject: Subject, runs: Runs, tmp_path: Path) -> None:
    """A step of a training run in which a parameter's numbers have changed is not resumed; the error names it."""
    runs.saved(FULL, tmp_path)
    silent_damage.last_bit(Path(served(tmp_path)), WEIGHT)
    with refused(WEIGHT):
        runs.resumed(FULL, tmp_path, 1)


@contract(source="docs/bugs.md#p12; google-deepmind/gemma #161", needs=("save", "restore"))
def test_lost_parameter_is_refused_by_name(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A saved checkpoint whose list of arrays lacks one is refused by the name of that parameter."""
    subject.save(base_checkpoint.spec, base_checkpoint.params, str(tmp_path / "params"))
    silent_damage.unlisted(tmp_path / "params", WEIGHT)
    with refused(WEIGHT, str(tmp_path / "params")):
        subject.restore(str(tmp_path / "params"), None)


@contract(source="docs/bugs.md#c18", needs=("save", "restore"))
def test_saved_checkpoint_casts_as_asked(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A saved checkpoint restores in another dtype, as one by openpi does: its checksums do not prevent the cast."""
    subject.save(lora_checkpoint.spec, lora_checkpoint.params, str(tmp_path / "params"))
    expected = {path: array.astype(ml_dtypes.bfloat16) for path, array in lora_checkpoint.params.items()}
    assert_same_bits(subject.restore(str(tmp_path / "params"), "bfloat16"), expected)


@contract(source="openpi stores no checksums; docs/bugs.md#c18", needs=("load", "openpi", "load_report"))
def test_unguarded_checkpoint_is_said_to_be(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """A load from a checkpoint without checksums, such as openpi's, says that integrity was not checked."""
    notes = subject.load(base_checkpoint.spec, from_checkpoint(base_checkpoint.path), seed=0)["notes"]
    assert [note for note in notes if "integrity was not checked" in note]


@contract(source="docs/bugs.md#c18", needs=("load", "openpi", "save", "load_report"))
def test_guarded_checkpoint_needs_no_note(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A load from a checkpoint that the subject saved says nothing about integrity."""
    subject.save(base_checkpoint.spec, base_checkpoint.params, str(tmp_path / "params"))
    notes = subject.load(base_checkpoint.spec, from_checkpoint(tmp_path / "params"), seed=0)["notes"]
    assert not [note for note in notes if "integrity" in note]
