"""What is refused from metadata and names alone, and what is plausible although it looks unusual."""

from pathlib import Path

import numpy as np
import pytest

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.item import StoredLeaf
from pi0_compat.layouts.orbax.untrusted import refuse_absurd_sizes, refuse_links_out


def claimed(shape: tuple[int, ...], chunk: tuple[int, ...] | None = None) -> dict[str, StoredLeaf]:
    """What orbax's metadata says of an array."""
    return {"w": StoredLeaf(shape, np.dtype(np.float32), chunk)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a checkpoint of a thousand bytes."""
    (tmp_path / "params" / "d").mkdir(parents=True)
    (tmp_path / "params" / "d" / "0").write_bytes(bytes(1000))
    return tmp_path / "params"


@pytest.mark.parametrize(
    ("shape", "chunk"),
    [((), ()), ((0, 3), (1, 3)), ((2**22,), (2**22,)), ((1000,), (1,)), ((2**22,), None)],
    ids=["scalar", "empty", "zeros_that_compress_well", "a_byte_a_piece", "no_chunks_recorded"],
)
def test_sizes_that_files_can_hold_are_accepted(
    folder: Path, shape: tuple[int, ...], chunk: tuple[int, ...] | None
) -> None:
    """Arrays that an encoding could have compressed to the size of the files are accepted."""
    refuse_absurd_sizes(folder, claimed(shape, chunk))


@pytest.mark.parametrize(
    ("shape", "chunk"),
    [((2**24,), (2**24,)), ((2**12, 2**12), None), ((1001,), (1,)), ((2**10, 2**10), (2**9, 1))],
    ids=["bytes", "product", "a_piece_more_than_bytes", "pieces"],
)
def test_sizes_that_no_files_can_hold_are_refused(
    folder: Path, shape: tuple[int, ...], chunk: tuple[int, ...] | None
) -> None:
    """More bytes than any compression reduces to the files, or more pieces than bytes, are damage."""
    with pytest.raises(CheckpointError, match=rf"^{folder}: damaged: w claims to be float32\[.*have 1000 bytes"):
        refuse_absurd_sizes(folder, claimed(shape, chunk))


@pytest.mark.parametrize("target", ["../outside", "d/../../outside", "/"])
def test_links_out_are_refused_by_name_and_target(folder: Path, target: str) -> None:
    """A link is refused with its place in the checkpoint, its target and a solution, even a dangling one."""
    (folder / "d" / "link").symlink_to(Path("..", target) if target != "/" else target)
    with pytest.raises(CheckpointError, match=rf"^{folder}: d/link is a symbolic link out of the folder, to .*cp -rL"):
        refuse_links_out(folder)


def test_links_inside_are_accepted(folder: Path) -> None:
    """Links to a neighbor, to the folder itself, or to a missing file inside are harmless."""
    for name, target in {"a": "d/0", "b": ".", "c": "d/nothing"}.items():
        (folder / name).symlink_to(target)
    refuse_links_out(folder)


def test_a_link_to_the_checkpoint_is_accepted(folder: Path) -> None:
    """The folder itself may be a link: its own files are inside the link's target."""
    (folder.parent / "link").symlink_to(folder)
    refuse_links_out(folder.parent / "link")
