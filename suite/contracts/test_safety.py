"""Files by strangers: nothing in them runs, reaches outside their folder, or takes more memory than they have bytes.

These laws test the subject's own guards with harmless files: a limit that the test sets low, a name of a sibling folder
of the test's, a pickle that leaves a note.
"""

import inspect
import os
import shutil
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fixtures.damage import untrusted_files
from fixtures.damage.failing_files import serve
from fixtures.damage.operations.safetensors import SHARDS_BESIDE
from fixtures.specs import ModelSpec
from fixtures.writers import hugging_face, openpi
from suite.contracts.checkpoints import Checkpoint
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, refused
from suite.writing.cases import digests, from_checkpoint, from_hugging_face, from_paligemma

# Numbers that a member of an npz claims: 64 MB of float32, more than the loads of the tiny models take.
CLAIM = 2**24
# Frames that a restore needs at most, and a nesting that needs more.
ROOM, NESTING = 200, 400


@contract(source="python docs, pickle: it runs what a file says", needs=("restore", "guarded", "in_process"))
@pytest.mark.parametrize("name", ["params.pkl", "params.pt", "params"])
def test_pickle_is_not_run(subject: Subject, tmp_path: Path, name: str) -> None:
    """A pickle given as a checkpoint, or a torch archive that contains one, is refused by name and never unpickled."""
    path = tmp_path / name
    path.write_bytes(untrusted_files.pickled(str(path)))
    if name == "params.pt":
        untrusted_files.torch_archive(path, str(path))
    with refused(str(path)):
        subject.restore(str(path), None)
    assert str(path) not in untrusted_files.NOTES


@contract(
    source="python docs, pickle; numpy.load's allow_pickle", needs=("load", "paligemma_npz", "guarded", "in_process")
)
def test_pickle_in_an_npz_is_not_run(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """An npz with pickled objects is refused by name, and the pickle never runs."""
    path = tmp_path / "pt_224.npz"
    untrusted_files.npz_with_a_pickle(base_spec, path, str(path))
    with refused(str(path)):
        subject.load(base_spec, from_paligemma(path), seed=0)
    assert str(path) not in untrusted_files.NOTES


@contract(source="CWE-22, zip slip", needs=("load", "paligemma_npz", "guarded"))
@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_member_outside_is_refused(subject: Subject, base_spec: ModelSpec, tmp_path: Path, kind: str) -> None:
    """An archive with a member whose path leads outside is refused by that member's name, and nothing is written."""
    name = {"relative": "../beside/member.npy", "absolute": f"{tmp_path}/beside/member.npy"}[kind]
    path = tmp_path / "release" / "pt_224.npz"
    path.parent.mkdir()
    untrusted_files.npz_with_a_member_beside(base_spec, path, name)
    before = digests(tmp_path)
    with refused(str(path), name):
        subject.load(base_spec, from_paligemma(path), seed=0)
    assert digests(tmp_path) == before


@contract(source="CWE-22, path traversal", needs=("load", "hugging_face", "guarded"))
@pytest.mark.parametrize("way", SHARDS_BESIDE)
def test_shard_outside_is_refused(subject: Subject, base_spec: ModelSpec, tmp_path: Path, way: str) -> None:
    """An index that names a shard by way of another folder is refused by the checkpoint's path."""
    path = tmp_path / "release"
    hugging_face.build(base_spec, path, shards=3)
    SHARDS_BESIDE[way](path)
    with refused(str(path)):
        subject.load(base_spec, from_hugging_face(path), seed=0)


@contract(source="CWE-22, path traversal", needs=("download", "guarded", "in_process"))
@pytest.mark.parametrize("name", ["../beside", "d/../../beside"])
def test_listing_outside_is_refused(subject: Subject, tmp_path: Path, name: str) -> None:
    """A server listing that includes a file outside the requested folder is refused; that file is not written."""
    remote = serve({"bucket/params/d/0": b"listed"})
    remote.listed = {f"bucket/params/{name}": b"beside"}
    with refused(remote.url("bucket/params")):
        subject.download(remote.url("bucket/params"), str(tmp_path / "cache"))
    assert b"beside" not in [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]


@pytest.fixture
def linked(base_checkpoint: Checkpoint, tmp_path: Path, name: str) -> Path:
    """A checkpoint in which a file or folder is a symbolic link to one beside the checkpoint."""
    inside, beside = tmp_path / "params", tmp_path / "beside"
    shutil.copytree(base_checkpoint.path, inside)
    (inside / name).rename(beside)
    (inside / name).symlink_to(os.path.relpath(beside, inside))
    return inside


some_links = pytest.mark.parametrize("name", ["manifest.ocdbt", "d", "ocdbt.process_0"])


@contract(source="CWE-59, link following", needs=("restore", "guarded"))
@some_links
def test_link_out_is_refused(subject: Subject, linked: Path, name: str) -> None:
    """A checkpoint with a file or folder that is a symbolic link to the outside is refused by the link's name."""
    with refused(str(linked), name):
        subject.restore(str(linked), None)


@contract(source="CWE-59, link following", needs=("load", "openpi", "guarded"))
@some_links
def test_link_out_is_not_loaded(subject: Subject, base_spec: ModelSpec, linked: Path, name: str) -> None:
    """No model is loaded through a link that leads out of a checkpoint; the error names the link."""
    with refused(str(linked), name):
        subject.load(base_spec, from_checkpoint(linked), seed=0)


LIMITS = {
    "array_of_a_mebibyte": {"array_bytes": 2**20 - 1, "compression": 1},
    "piece_of_a_mebibyte": {"piece_bytes": 2**20},
}


@contract(source="CWE-789, memory allocation with an excessive size", needs=("restore_limited",))
@pytest.mark.parametrize("limit", LIMITS)
def test_claim_beyond_the_limits_is_refused(subject: Subject, tmp_path: Path, limit: str) -> None:
    """An array of a mebibyte of zeros in a few kilobytes of files is refused by its name if the limits do not allow for
    its size, or for a piece of it."""
    params = {"head/kernel": np.zeros((512, 512), np.float32)}
    openpi.write(params, tmp_path / "params")
    with refused(str(tmp_path / "params"), "head/kernel"):
        subject.restore_limited(str(tmp_path / "params"), LIMITS[limit])


@contract(source="CWE-789, memory allocation with an excessive size", needs=("restore_limited",))
def test_claim_within_the_limits_is_read(subject: Subject, tmp_path: Path) -> None:
    """The same array is read if the limits just allow for it."""
    params = {"head/kernel": np.zeros((512, 512), np.float32)}
    openpi.write(params, tmp_path / "params")
    limits = {"array_bytes": 2**20, "compression": 1}
    assert_same_bits(subject.restore_limited(str(tmp_path / "params"), limits), params)


@contract(
    source="CWE-789, memory allocation with an excessive size",
    needs=("load", "paligemma_npz", "guarded", "in_process"),
)
def test_claim_of_an_npz_is_not_allocated(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """An npz with a member that claims 64 MB and has none is refused by the member's name, without allocating them."""
    path = tmp_path / "pt_224.npz"
    untrusted_files.npz_that_claims(base_spec, path, CLAIM)
    tracemalloc.start()
    try:
        with refused(str(path), untrusted_files.CLAIMED):
            subject.load(base_spec, from_paligemma(path), seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * CLAIM


@contextmanager
def shallow_stack() -> Iterator[None]:
    """Let this process call ``ROOM`` functions deep from here."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + ROOM)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


@contract(source="CPython's recursion limit", needs=("restore", "guarded", "in_process"))
def test_deep_metadata_is_refused(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Metadata that is nested deeper than Python's stack is refused as damaged, by the checkpoint's name; the same
    stack is deep enough for metadata as orbax writes it."""
    shutil.copytree(base_checkpoint.path, tmp_path / "params")
    (tmp_path / "params" / "_METADATA").write_text("[" * NESTING + "]" * NESTING)
    with shallow_stack():
        assert_same_bits(subject.restore(base_checkpoint.path, None), base_checkpoint.params)
        with refused(str(tmp_path / "params"), "damaged", "recursion"):
            subject.restore(str(tmp_path / "params"), None)
