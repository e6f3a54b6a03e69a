"""Untrusted checkpoints: nothing in them runs, reaches outside their folder, or takes unbounded memory."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fixtures.damage import hostile, silent_damage
from fixtures.damage.failing_files import serve
from fixtures.writers import openpi
from suite.contracts.checkpoints import Checkpoint
from suite.contracts.process_limits import limit_memory
from suite.session.registry import contract
from suite.subjects.process.elsewhere import Elsewhere, elsewhere
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, refused
from suite.writing.cases import digests, from_checkpoint, from_paligemma

WEIGHT = "action_in_proj/kernel"


@contract(source="python docs, pickle: it runs what a file says", needs=("restore",))
@pytest.mark.parametrize("name", ["params.pkl", "params.pt", "params"])
def test_pickle_is_not_run(subject: Subject, tmp_path: Path, name: str) -> None:
    """A pickle given as a checkpoint, or a torch archive that contains one, is refused by name and never unpickled."""
    path, mark = tmp_path / name, tmp_path / "mark"
    path.write_bytes(hostile.pickled(mark))
    if name == "params.pt":
        hostile.torch_archive(path, mark)
    with refused(str(path)):
        subject.restore(str(path), None)
    assert not mark.exists()


@contract(source="python docs, pickle; numpy.load's allow_pickle", needs=("load", "paligemma_npz"))
def test_pickle_in_an_npz_is_not_run(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """An npz with pickled objects is refused by name, and the pickle never runs."""
    path, mark = tmp_path / "pt_224.npz", tmp_path / "mark"
    hostile.npz_with_a_pickle(base_checkpoint.spec, path, mark)
    with refused(str(path)):
        subject.load(base_checkpoint.spec, from_paligemma(path), seed=0)
    assert not mark.exists()


@contract(source="CWE-22, zip slip", needs=("load", "paligemma_npz"))
@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_member_outside_is_refused(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, kind: str) -> None:
    """An archive with a member whose path leads outside is refused by that member's name, and nothing is written."""
    name = {"relative": "../../outside.npy", "absolute": f"{tmp_path}/outside.npy"}[kind]
    path = tmp_path / "a" / "b" / "pt_224.npz"
    path.parent.mkdir(parents=True)
    hostile.npz_with_a_member_outside(base_checkpoint.spec, path, name)
    before = digests(tmp_path)
    with refused(str(path), name):
        subject.load(base_checkpoint.spec, from_paligemma(path), seed=0)
    assert digests(tmp_path) == before


@contract(source="CWE-22, path traversal", needs=("download", "in_process"))
@pytest.mark.parametrize("name", ["../outside", "d/../../../outside"])
def test_listing_outside_is_refused(subject: Subject, tmp_path: Path, name: str) -> None:
    """A server listing that includes a file outside the requested folder is refused; that file is not written."""
    remote = serve({"bucket/params/d/0": b"good"})
    remote.listed = {f"bucket/params/{name}": b"evil"}
    cache = tmp_path / "a" / "b" / "c" / "cache"
    with refused(remote.url("bucket/params")):
        subject.download(remote.url("bucket/params"), str(cache))
    assert b"evil" not in [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]


@contract(source="CWE-59, link following", needs=("restore", "load", "openpi"))
@pytest.mark.parametrize("name", ["manifest.ocdbt", "d", "ocdbt.process_0"])
def test_link_out_is_refused(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, name: str) -> None:
    """A checkpoint with a file or folder that is a symbolic link to the outside is refused by the link's name."""
    inside, outside = tmp_path / "params", tmp_path / "outside"
    shutil.copytree(base_checkpoint.path, inside)
    (inside / name).rename(outside)
    (inside / name).symlink_to(os.path.relpath(outside, inside))
    with refused(str(inside), name):
        subject.restore(str(inside), None)
    with refused(str(inside), name):
        subject.load(base_checkpoint.spec, from_checkpoint(inside), seed=0)


@contract(source="a folder of datasets is often a link", needs=("restore",))
def test_links_that_stay_are_followed(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A symbolic link to a whole checkpoint, and links between its own files, are followed."""
    shutil.copytree(base_checkpoint.path, tmp_path / "stored")
    (tmp_path / "stored" / "manifest.ocdbt").rename(tmp_path / "stored" / "manifest")
    (tmp_path / "stored" / "manifest.ocdbt").symlink_to("manifest")
    (tmp_path / "params").symlink_to("stored")
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), base_checkpoint.params)


@contextmanager
def bounded_process(subject: Subject, checkpoint: Checkpoint) -> Iterator[Elsewhere]:
    """Start the subject in a process, let it read a checkpoint, then limit it to 4 GiB more and a minute per call."""
    with elsewhere(subject, timeout=60) as process:
        process.restore(checkpoint.path, None)
        limit_memory(process.pid, 4 * 2**30)
        yield process


@pytest.fixture(scope="module")
def bounded(subject: Subject, base_checkpoint: Checkpoint) -> Iterator[Elsewhere]:
    with bounded_process(subject, base_checkpoint) as process:
        yield process


@pytest.fixture(scope="module")
def bounded_for_npz(subject: Subject, base_checkpoint: Checkpoint) -> Iterator[Elsewhere]:
    """A second such process, since a checkpoint may have ended the first."""
    with bounded_process(subject, base_checkpoint) as process:
        yield process


@contract(source="CWE-789, memory allocation with an excessive size", needs=("restore",))
@pytest.mark.parametrize("rows", [2**28, 2**31, 2**50])
def test_absurd_shape_is_refused_at_once(
    bounded: Elsewhere, subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, rows: int
) -> None:
    """A checkpoint that claims an array far larger than its files is refused by that array's name, without allocating
    it."""
    shutil.copytree(base_checkpoint.path, tmp_path / "params")
    silent_damage.absurd_shape(tmp_path / "params", WEIGHT, rows)
    with refused(str(tmp_path / "params"), WEIGHT):
        bounded.restore(str(tmp_path / "params"), None)


@contract(source="openpi lora.py: a fresh lora_b may be all zeros", needs=("restore",))
def test_compressed_zeros_are_plausible(subject: Subject, tmp_path: Path) -> None:
    """An array of zeros that takes ten thousand times less space on disk than in memory is not refused as absurd."""
    params = {"head/kernel": np.zeros((2048, 4096), np.float32)}
    openpi.write(params, tmp_path / "params")
    assert_same_bits(subject.restore(str(tmp_path / "params"), None), params)


@contract(source="CWE-789, memory allocation with an excessive size", needs=("restore", "load", "paligemma_npz"))
@pytest.mark.parametrize("length", [2**33, 2**50])
def test_absurd_npz_header_is_refused_at_once(
    bounded_for_npz: Elsewhere, subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, length: int
) -> None:
    """An npz with a member that claims more numbers than it has is refused by its name, without allocating them."""
    path = tmp_path / "pt_224.npz"
    hostile.npz_with_an_absurd_header(base_checkpoint.spec, path, length)
    with refused(str(path), "img/embedding/bias"):
        bounded_for_npz.load(base_checkpoint.spec, from_paligemma(path), seed=0)


@contract(source="CPython's recursion limit", needs=("restore",))
@pytest.mark.parametrize("text", ["[" * 10**6, '{"tree_metadata":' * 10**5], ids=["lists", "objects"])
def test_bottomless_metadata_is_refused(
    subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, text: str
) -> None:
    """Metadata with extremely deep nesting is refused as damaged, by the checkpoint's name."""
    shutil.copytree(base_checkpoint.path, tmp_path / "params")
    (tmp_path / "params" / "_METADATA").write_text(text)
    with refused(str(tmp_path / "params")):
        subject.restore(str(tmp_path / "params"), None)
