"""Foreign layouts: each array of the file lands at its place in openpi's tree."""

from pathlib import Path

import numpy as np
import pytest

from fixtures import paligemma_npz
from fixtures.specs import ModelSpec, tiny
from suite.asserts import assert_different, assert_same_bits
from suite.cases import from_paligemma
from suite.registry import contract
from suite.subjects.protocol import Subject


@contract(
    source="big_vision utils.py:827, openpi weight_loaders.py:56; bugs C7",
    needs=("load", "paligemma_npz"),
)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_paligemma_lands_leaf_by_leaf(subject: Subject, base_spec: ModelSpec, tmp_path: Path, dtype: str) -> None:
    """Every array of the official PaliGemma npz lands at its place, its values cast exactly to float32."""
    written = paligemma_npz.build(base_spec, tmp_path / "pt_224.npz", dtype=dtype)
    params = subject.load(base_spec, from_paligemma(tmp_path / "pt_224.npz"), seed=0)["params"]
    expected = {path: array.astype(np.float32) for path, array in written.items()}
    assert_same_bits({path: params[path] for path in expected}, expected)


@contract(source="arXiv:2410.24164 section IV; bugs C3", needs=("load", "init", "paligemma_npz"))
@pytest.mark.parametrize("spec", [tiny("pi0"), tiny("pi05")], ids=["pi0", "pi05"])
def test_what_paligemma_lacks_is_freshly_initialised(subject: Subject, tmp_path: Path, spec: ModelSpec) -> None:
    """The action expert and the projections are not in PaliGemma and start as a fresh model's do, from the seed."""
    written = paligemma_npz.build(spec, tmp_path / "pt_224.npz")
    loaded = subject.load(spec, from_paligemma(tmp_path / "pt_224.npz"), seed=3)["params"]
    fresh = {path: array for path, array in subject.init(spec, 3).items() if path not in written}
    assert_same_bits({path: loaded[path] for path in fresh}, fresh)
    assert_different(loaded["action_in_proj/kernel"], subject.init(spec, 4)["action_in_proj/kernel"])
