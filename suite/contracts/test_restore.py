"""Reading a checkpoint: every bit as it was stored, under openpi's names, and nothing on disk changes."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fixtures import openpi_orbax
from fixtures.params import Params
from suite.asserts import assert_same_bits, refused
from suite.cases import digests
from suite.contracts.conftest import Checkpoint
from suite.registry import contract
from suite.subjects.protocol import Subject


@contract(source="openpi model.py:281", needs=("restore",))
@pytest.mark.parametrize("value_suffix", [True, False], ids=["with_value_suffix", "without_value_suffix"])
def test_keeps_every_bit(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path, value_suffix: bool) -> None:
    """Restoring gives the parameters that were stored, bit for bit, whether or not nnx's `value` ends their names."""
    openpi_orbax.write(lora_checkpoint.params, tmp_path / "params", value_suffix=value_suffix)
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), lora_checkpoint.params)


@contract(source="IEEE 754; bugs C6", needs=("restore",))
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=["float32", "float16", "bfloat16"])
def test_keeps_odd_floats(subject: Subject, tmp_path: Path, dtype: type) -> None:
    """NaN payloads, signed zeros, subnormals and infinities survive restoring as the bits they are."""
    bits = np.dtype(f"u{np.dtype(dtype).itemsize}")
    # Every bit pattern of 16-bit floats, and as many of float32, spread over all exponents.
    patterns = np.arange(2**16, dtype=np.uint32) * (1 if bits.itemsize == 2 else 2**16 + 1)
    params: Params = {"head/kernel": patterns.astype(bits).view(dtype)}
    openpi_orbax.write(params, tmp_path / "params")
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), params)


@contract(source="openpi model.py:328; bugs C17", needs=("restore",))
def test_keeps_a_parameter_called_value(subject: Subject, tmp_path: Path) -> None:
    """A parameter that is really called `value` keeps its name: it is no suffix."""
    params = {name: np.full(3, n, np.float32) for n, name in enumerate(("critic/bias", "critic/value", "head/w"))}
    openpi_orbax.write(params, tmp_path / "bare", value_suffix=False)
    openpi_orbax.write(params, tmp_path / "suffixed", value_suffix=True)
    assert_same_bits(subject.restore(str(tmp_path / "bare"), None), params)
    assert_same_bits(subject.restore(str(tmp_path / "suffixed"), None), params)


@contract(source="openpi model.py:328; bugs C17", needs=("restore",))
def test_strips_the_suffix_in_mixed_trees(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Where some leaves carry nnx's `value` and others do not, all come back under openpi's names."""
    openpi_orbax.write(
        base_checkpoint.params,
        tmp_path / "params",
        value_suffix=lambda path: path.endswith("kernel"),
    )
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), base_checkpoint.params)


@contract(source="IEEE 754 round to nearest even", needs=("restore",))
def test_casts_as_asked(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """With a dtype, every parameter is cast to it by rounding to nearest even."""
    expected = {path: array.astype(ml_dtypes.bfloat16) for path, array in base_checkpoint.params.items()}
    assert_same_bits(subject.restore(base_checkpoint.path, "bfloat16"), expected)


@contract(source="bugs C19", needs=("restore",))
def test_leaves_the_files_alone(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """Restoring twice gives the same order of paths and changes no file of the checkpoint."""
    before = digests(base_checkpoint.path)
    first, second = (list(subject.restore(base_checkpoint.path, None)) for _ in range(2))
    assert first == second
    assert digests(base_checkpoint.path) == before


@contract(source="bugs C16", needs=("restore",))
def test_step_folder_is_refused_by_name(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """Given the step's folder instead of its `params`, the error names the folder to pass."""
    with refused(base_checkpoint.path):
        subject.restore(str(Path(base_checkpoint.path).parent), None)


@contract(source="bugs C16", needs=("restore",))
@pytest.mark.parametrize("name", ["nowhere", "empty", "a_file"])
def test_wrong_path_is_refused_by_name(subject: Subject, tmp_path: Path, name: str) -> None:
    """A path without a checkpoint is refused by its name, and nothing appears on disk."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "a_file").write_text("not a checkpoint")
    before = sorted(tmp_path.rglob("*"))
    with refused(str(tmp_path / name)):
        subject.restore(str(tmp_path / name), None)
    assert sorted(tmp_path.rglob("*")) == before


@contract(source="bugs C16", needs=("restore",))
def test_url_without_driver_is_refused_by_name(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL of a scheme that nobody can read is refused by its name, not taken for a local path."""
    monkeypatch.chdir(tmp_path)
    with refused("nosuchscheme://bucket/checkpoint/params"):
        subject.restore("nosuchscheme://bucket/checkpoint/params", None)
    assert not list(tmp_path.rglob("*"))
