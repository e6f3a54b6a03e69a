"""A PEFT adapter is merged into its base, on whichever modules it is; what cannot be merged is refused by name."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fixtures.writers import safetensors_file
from pi0_compat.errors import LoadError
from pi0_compat.layouts.torch.merged import MergedTensors
from pi0_compat.layouts.torch.safetensors_folder import open_tensors

RNG = np.random.default_rng(7)
WEIGHT, OTHER = "model.action_in_proj.weight", "model.action_in_proj.bias"
BASE = {WEIGHT: RNG.normal(size=(6, 5)).astype(np.float32), OTHER: RNG.normal(size=6).astype(np.float32)}
A, B = (f"base_model.model.model.action_in_proj.lora_{half}.weight" for half in "AB")
ADAPTER = {A: RNG.normal(size=(2, 5)).astype(np.float32), B: RNG.normal(size=(6, 2)).astype(np.float32)}


def merged(
    folder: Path,
    adapter: dict[str, np.ndarray] = ADAPTER,
    base: dict[str, np.ndarray] = BASE,
    dtype: Any = None,
    **config: Any,
) -> MergedTensors:
    """Write base and adapter, and merge them."""
    (folder / "adapter").mkdir()
    safetensors_file.write(base, folder / "model.safetensors")
    safetensors_file.write(adapter, folder / "adapter" / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, **config}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    with open_tensors(folder / "model.safetensors") as tensors:
        return MergedTensors(tensors, folder / "adapter", dtype)


@pytest.mark.parametrize(
    ("config", "scale"),
    [({}, 4.0), ({"use_rslora": True}, 8 / 2**0.5), ({"alpha_pattern": {"action_in_proj": 3}}, 1.5)],
)
def test_weights_and_others(tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    """An adapted weight is W + scale B A, rounded once; any other tensor is as it was."""
    tensors = merged(tmp_path, **config)
    expected = BASE[WEIGHT].astype(np.float64) + scale * ADAPTER[B].astype(np.float64) @ ADAPTER[A].astype(np.float64)
    assert tensors.read(WEIGHT).tobytes() == expected.astype(np.float32).tobytes()
    assert tensors.read(OTHER).tobytes() == BASE[OTHER].tobytes()
    assert np.concatenate(list(tensors.slabs(WEIGHT))).tobytes() == expected.astype(np.float32).tobytes()
    assert tensors.lost[WEIGHT] < 1e-6


def test_alpha_is_eight_by_default(tmp_path: Path) -> None:
    """A config without alpha means PEFT's own default, 8, whatever the rank."""
    one, other = (tmp_path / name for name in ("a", "b"))
    one.mkdir()
    other.mkdir()
    with_alpha = merged(one)
    merged(other)
    (other / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    with open_tensors(other / "model.safetensors") as tensors:
        without = MergedTensors(tensors, other / "adapter")
    assert without.read(WEIGHT).tobytes() == with_alpha.read(WEIGHT).tobytes()


def test_what_rounding_takes_is_known(tmp_path: Path) -> None:
    """In bfloat16 a share of the delta is lost, and float32 keeps it on request."""
    small = {A: ADAPTER[A] * np.float32(1e-3), B: ADAPTER[B]}
    short = {name: x.astype(ml_dtypes.bfloat16) for name, x in BASE.items()}
    for name in ("short", "wide"):
        (tmp_path / name).mkdir()
    tensors = merged(tmp_path / "short", small, short)
    assert tensors.read(WEIGHT).dtype == ml_dtypes.bfloat16
    assert 0.01 < tensors.lost[WEIGHT] < 1
    tensors = merged(tmp_path / "wide", small, short, dtype=np.dtype(np.float32))
    assert tensors.leaves[WEIGHT].dtype == tensors.read(WEIGHT).dtype == np.dtype(np.float32)
    assert tensors.lost[WEIGHT] < 1e-4


@pytest.mark.parametrize(
    ("adapter", "config", "words"),
    [
        ({A: ADAPTER[A]}, {}, "the adapter of model.action_in_proj has no lora_B"),
        ({A: ADAPTER[A], B: ADAPTER[B].T.copy()}, {}, "the adapter of model.action_in_proj is"),
        (ADAPTER, {"r": 4}, "rank"),
        (ADAPTER, {"use_dora": True}, "use_dora is True"),
        ({name.replace("action_in", "other"): x for name, x in ADAPTER.items()}, {}, "an adapter of model.other_proj"),
        ({**ADAPTER, "base_model.model.model.action_in_proj.bias": BASE[OTHER]}, {}, "are no matrices of an adapter"),
        ({}, {}, "has no adapters"),
    ],
)
def test_what_cannot_be_merged(tmp_path: Path, adapter: Any, config: dict[str, Any], words: str) -> None:
    """Halves, shapes, ranks, kinds, and modules that do not fit the base are refused."""
    with pytest.raises(LoadError, match=words):
        merged(tmp_path, adapter, **config)
