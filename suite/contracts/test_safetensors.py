"""Safetensors files and shard indexes: names matter, order does not, and damaged files are refused."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.damage.operations.safetensors import INDEX_DAMAGES
from fixtures.specs import ModelSpec
from fixtures.writers import hugging_face, paligemma_npz
from fixtures.writers.hugging_face import GENERATIONS, Generation
from suite.contracts.load_asserts import assert_landed, assert_refused
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.cases import digests, from_hugging_face

NEEDS = ("load", "hugging_face")


@contract(source="safetensors format: tensors have names, no order", needs=NEEDS)
@given(seed=st.integers(0, 2**32 - 1), shards=st.sampled_from([1, 2, 7]), generation=st.sampled_from([*GENERATIONS]))
def test_packing_means_nothing(
    subject: Subject, base_spec: ModelSpec, seed: int, shards: int, generation: Generation
) -> None:
    """The loaded parameters do not depend on the order of the tensors or on the number of shards."""
    params = paligemma_npz.contents(base_spec)
    named = hugging_face.tensors(params, generation)
    shuffled = {name: named[name] for name in np.random.default_rng(seed).permutation(sorted(named))}
    with tempfile.TemporaryDirectory() as folder:
        hugging_face.write_tensors(shuffled, Path(folder, "release"), shards=shards)
        assert_landed(subject.load(base_spec, from_hugging_face(Path(folder, "release")), seed=0)["params"], params)


@contract(source="Hugging Face's cache: snapshots are links to blobs", needs=NEEDS)
def test_files_of_the_cache_are_read(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """A folder of symbolic links to files elsewhere, as in Hugging Face's cache, loads."""
    written = hugging_face.build(base_spec, tmp_path / "blobs", shards=2)
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for file in (tmp_path / "blobs").iterdir():
        (snapshot / file.name).symlink_to(file)
    assert_landed(subject.load(base_spec, from_hugging_face(snapshot), seed=0)["params"], written)


@contract(source="the damage's entry in fixtures/damage/operations/safetensors.py", needs=NEEDS)
@pytest.mark.parametrize("damage", INDEX_DAMAGES)
def test_damaged_index_is_refused(subject: Subject, base_spec: ModelSpec, tmp_path: Path, damage: str) -> None:
    """An index that points outside its folder or contradicts its shards is refused, and no file changes."""
    path = tmp_path / "release"
    hugging_face.build(base_spec, path, shards=3)
    INDEX_DAMAGES[damage](path)
    before = digests(tmp_path)
    assert_refused(subject, base_spec, from_hugging_face(path))
    assert digests(tmp_path) == before
