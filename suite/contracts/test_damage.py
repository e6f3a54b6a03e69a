"""Damaged checkpoints in every layout: critical damage is refused by name, harmless oddities load as written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.damage.corruptions import CORRUPTIONS, Corruption
from fixtures.params import Params
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, refused
from suite.writing.cases import digests

SOURCE = "the damage's entry in fixtures/damage/corruptions.py"
# File or folder name to use for each layout.
NAMES = {
    "openpi": "params",
    "paligemma_npz": "pt_224.npz",
    "hugging_face": "paligemma-3b-pt-224",
    "gemma_flax": "2b",
    "openpi_pytorch": "pi0_base_pytorch",
}


def damages(severity: str, layout: str) -> pytest.MarkDecorator:
    selected = [damage for damage in CORRUPTIONS if damage.severity == severity and layout in damage.layouts()]
    return pytest.mark.parametrize("damage", selected, ids=[damage.name for damage in selected])


def assert_refused(subject: Subject, damage: Corruption, layout: Any, folder: Path) -> None:
    """Assert that loading the damaged file or folder is refused by its name and changes no file."""
    path = folder / NAMES[layout]
    damage.apply(damage.spec(), path, layout=layout)
    before = digests(folder)
    with refused(str(path)):
        subject.load(damage.spec(), {"kind": layout, "path": str(path)}, seed=0)
    assert digests(folder) == before


def assert_loads(subject: Subject, damage: Corruption, layout: Any, folder: Path) -> Params:
    """Assert that every written parameter the model uses loads with its value, and return the loaded parameters."""
    path = folder / NAMES[layout]
    written = damage.apply(damage.spec(), path, layout=layout)
    params = subject.load(damage.spec(), {"kind": layout, "path": str(path)}, seed=0)["params"]
    used = params.keys() & written.keys()
    assert used
    assert_same_bits({path: params[path] for path in used}, in_float32({path: written[path] for path in used}))
    return dict(params)


def in_float32(params: Params) -> Params:
    """Cast stored values to a float32 model's dtype; all harmlessly corrupted values fit float32."""
    return {path: array.astype(np.float32) for path, array in params.items()}


@contract(source=SOURCE, needs=("load", "openpi", "load_for_inference"))
@damages("critical", "openpi")
def test_checkpoint_is_refused(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """A checkpoint with critical damage is refused by name, for training and for serving, and no file changes."""
    assert_refused(subject, damage, "openpi", tmp_path)
    with refused(str(tmp_path / "params")):
        subject.load_for_inference(damage.spec(), str(tmp_path / "params"))


@contract(source=SOURCE, needs=("load", "openpi", "load_for_inference"))
@damages("benign", "openpi")
def test_harmless_checkpoint_loads(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """A checkpoint with a harmless oddity loads, for training and for serving, with the written values."""
    trained = assert_loads(subject, damage, "openpi", tmp_path)
    served = subject.load_for_inference(damage.spec(), str(tmp_path / "params"))
    assert_same_bits(in_float32(served), trained)


@contract(source=SOURCE, needs=("load", "paligemma_npz"))
@damages("critical", "paligemma_npz")
def test_npz_is_refused(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """An npz with critical damage (truncated, flipped, pickled, ill-fitting) is refused by name and left unchanged."""
    assert_refused(subject, damage, "paligemma_npz", tmp_path)


@contract(source=SOURCE, needs=("load", "paligemma_npz"))
@damages("benign", "paligemma_npz")
def test_harmless_npz_loads(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """An npz with a harmless oddity (byte order, compression, member order) loads with the written values."""
    assert_loads(subject, damage, "paligemma_npz", tmp_path)


@contract(source=SOURCE, needs=("load", "hugging_face"))
@damages("critical", "hugging_face")
def test_hugging_face_is_refused(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """Hugging Face's PaliGemma with critical damage is refused by name and left unchanged."""
    assert_refused(subject, damage, "hugging_face", tmp_path)


@contract(source=SOURCE, needs=("load", "hugging_face"))
@damages("benign", "hugging_face")
def test_harmless_hugging_face_loads(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """Hugging Face's PaliGemma with a harmless oddity loads with the written values."""
    assert_loads(subject, damage, "hugging_face", tmp_path)


@contract(source=SOURCE, needs=("load", "gemma_flax"))
@damages("critical", "gemma_flax")
def test_gemma_is_refused(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """An official Gemma with critical damage is refused by name and left unchanged."""
    assert_refused(subject, damage, "gemma_flax", tmp_path)


@contract(source=SOURCE, needs=("load", "gemma_flax"))
@damages("benign", "gemma_flax")
def test_harmless_gemma_loads(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """An official Gemma with a harmless oddity loads with the written values."""
    assert_loads(subject, damage, "gemma_flax", tmp_path)


@contract(source=SOURCE, needs=("load", "openpi_pytorch"))
@damages("critical", "openpi_pytorch")
def test_pytorch_is_refused(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """openpi's PyTorch checkpoint with critical damage is refused by name and left unchanged."""
    assert_refused(subject, damage, "openpi_pytorch", tmp_path)


@contract(source=SOURCE, needs=("load", "openpi_pytorch"))
@damages("benign", "openpi_pytorch")
def test_harmless_pytorch_loads(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """openpi's PyTorch checkpoint with a harmless oddity loads with the written values."""
    assert_loads(subject, damage, "openpi_pytorch", tmp_path)
