"""Writing a checkpoint."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fixtures import content
from fixtures.params import Params
from fixtures.writers import openpi
from suite.contracts.checkpoints import Checkpoint
from suite.session.registry import contract
from suite.subjects.process.elsewhere import Elsewhere
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, refused
from suite.writing.cases import digests

WEIGHT = "action_in_proj/kernel"
EMBEDDING = "PaliGemma/llm/embedder/input_embedding"
GATING = "PaliGemma/llm/layers/mlp/gating_einsum"
ODD_FLOATS = ("float32", "float16", "bfloat16")


@contract(source="openpi checkpoints.py:75", needs=("save", "restore"))
def test_and_restore_keep_every_bit(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Saved parameters restore bit for bit, adapters included."""
    subject.save(lora_checkpoint.spec, lora_checkpoint.params, str(tmp_path / "params"))
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), lora_checkpoint.params)


@contract(source="IEEE 754; docs/bugs.md#c6, #c18", needs=("save", "restore"))
@pytest.mark.parametrize("dtype", ODD_FLOATS)
def test_keeps_odd_floats(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, dtype: str) -> None:
    """NaN payloads, signed zeros, subnormals and infinities survive saving and restoring bit for bit."""
    bits = np.dtype(f"u{content.DTYPES[dtype].itemsize}")
    patterns = np.arange(2**16, dtype=np.uint32) * (1 if bits.itemsize == 2 else 2**16 + 1)
    # Split by sign, and each sign into the smaller half (zero, subnormals) and the larger one (up to infinity and NaN).
    small, large = patterns.astype(bits).view(content.DTYPES[dtype]).reshape(2, 2, -1).swapaxes(0, 1)
    odd = {EMBEDDING: np.resize(small, (509, 56)), GATING: np.resize(large[:, ::-1], (3, 2, 56, 88))}
    params = base_checkpoint.params | odd
    subject.save(base_checkpoint.spec, params, str(tmp_path / "params"))
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), params)


@contract(source="openpi checkpoints.py:75, model.py:281", needs=("save", "openpi"))
def test_openpi_finds_its_own_names(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A save has the tree of openpi's training: everything below `params`, with nnx's `value` at every leaf."""
    subject.save(lora_checkpoint.spec, lora_checkpoint.params, str(tmp_path / "params"))
    expected = {f"params/{path}/value": array for path, array in lora_checkpoint.params.items()}
    assert_same_bits(openpi.read(tmp_path / "params"), expected)


def in_other_orders(params: Params) -> Params:
    """Return the same values as strided, reversed, Fortran-ordered and read-only arrays."""
    params = {path: np.asfortranarray(array) for path, array in params.items()}
    params["state_proj/bias"] = np.repeat(params["state_proj/bias"], 2)[::2]
    params["action_in_proj/bias"] = np.flip(np.flip(params["action_in_proj/bias"]).copy())
    for array in params.values():
        array.flags.writeable = False
    return params


@contract(source="numpy's memory layouts", needs=("save", "restore"))
def test_takes_any_memory_layout(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Strided views, arrays in Fortran order and read-only arrays are saved with their values."""
    subject.save(base_checkpoint.spec, in_other_orders(base_checkpoint.params), str(tmp_path / "params"))
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), base_checkpoint.params)


@contract(source="a training step donates and overwrites the arrays that were saved", needs=("save", "restore"))
def test_later_changes_are_not_saved(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """When a save returns, the checkpoint is complete: later changes to the arrays do not affect it."""
    params = {path: array.copy() for path, array in base_checkpoint.params.items()}
    subject.save(base_checkpoint.spec, params, str(tmp_path / "params"))
    for array in params.values():
        array[...] = 0
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), base_checkpoint.params)


@contract(source="training goes on with what was saved", needs=("save", "loss"))
def test_changes_no_array(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Saving does not change the arrays that it saves."""
    params = {path: array.copy() for path, array in base_checkpoint.params.items()}
    subject.save(base_checkpoint.spec, params, str(tmp_path / "params"))
    assert_same_bits(params, base_checkpoint.params)


@contract(source="docs/bugs.md#e4", needs=("save", "loss"))
@pytest.mark.parametrize("content", ["checkpoint", "file", "empty_folder"])
def test_never_overwrites(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, content: str) -> None:
    """Saving to a path where something exists, even an empty folder, is refused by name and changes nothing there."""
    path = tmp_path / "params"
    {
        "checkpoint": lambda: subject.save(base_checkpoint.spec, base_checkpoint.params, str(path)),
        "file": lambda: path.write_text("mine"),
        "empty_folder": path.mkdir,
    }[content]()
    before = digests(tmp_path)
    with refused(str(path)):
        subject.save(base_checkpoint.spec, base_checkpoint.params, str(path))
    assert digests(tmp_path) == before


@contract(source="docs/bugs.md#e4", needs=("save", "loss"))
def test_what_cannot_be_saved_leaves_nothing(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """If one of the arrays cannot be stored, saving raises and leaves nothing at the path or next to it."""
    params = base_checkpoint.params | {WEIGHT: np.full((9, 36), None, object)}
    with refused():
        subject.save(base_checkpoint.spec, params, str(tmp_path / "params"))
    assert not [*tmp_path.iterdir()]


@contract(source="docs/bugs.md#e4", needs=("save", "restore"))
def test_of_two_at_once_is_whole(
    subject: Subject, eight_devices: Elsewhere, base_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """If two processes save to the same path at once, one is refused, and the other's checkpoint is complete."""
    spec, path = base_checkpoint.spec, str(tmp_path / "params")
    saved = {seed: content.params(spec, seed) for seed in (1, 2)}
    refusals = []
    eight_devices.start("save", spec, saved[1], path)
    for seed, finish in ((2, lambda: subject.save(spec, saved[2], path)), (1, eight_devices.result)):
        try:
            finish()
        except Exception:  # noqa: BLE001 - any error counts as a refusal
            refusals.append(seed)
    [lost] = refusals
    assert_same_bits(subject.restore(path, None), saved[3 - lost])


@contract(source="docs/bugs.md#c18; frozen weights are bfloat16, trained ones float32", needs=("save", "restore"))
def test_mixed_dtypes_are_kept(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Every parameter keeps the dtype it was saved in, even if dtypes are mixed, as with narrower frozen parameters."""
    params = base_checkpoint.params | {WEIGHT: base_checkpoint.params[WEIGHT].astype(ml_dtypes.bfloat16)}
    subject.save(base_checkpoint.spec, params, str(tmp_path / "params"))
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), params)
