"""Read and write the official PaliGemma npz (``pt_224.npz``, ``.f16.npz``, ``.bf16.npz``).

It holds big_vision's parameters under ``params/``. The layers are stacked and named as in openpi, so each member goes
below ``PaliGemma/`` unchanged. numpy has no bfloat16 and reads it as two-byte voids (``|V2``); they are bfloat16 bits
(big_vision ``utils.py:827``, docs/bugs.md#c7).
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import ml_dtypes
import numpy as np

from pi0_compat.errors import CheckpointError
from pi0_compat.params import Leaf
from pi0_compat.storage.foreign import what_it_is
from pi0_compat.storage.stream import CACHED_VALUES, Source, cut, rows_at_a_time, slabs_ahead

_PREFIX, _ROOT = "params/", "PaliGemma/"
_NPY = ".npy"


class PaliGemmaNpz(Source):
    """An open npz: shapes and dtypes at once, arrays one at a time."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._archive = archive
        if outside := [name for name in archive.namelist() if _leads_out(name)]:
            raise CheckpointError(f"{path}: member {outside[0]} lies outside of the archive; get the file again")
        self._members = {_param_path(name): name for name in archive.namelist()}
        if len(self._members) != len(archive.namelist()):
            raise CheckpointError(
                f"{path}: two members hold the same parameter, and only one can be meant; get the file again"
            )
        self.leaves: dict[str, Leaf] = {path: self._header(name) for path, name in sorted(self._members.items())}

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """Return a parameter in the stored dtype, or cast while it is read, so that it is in memory only once."""
        name = self._members[path]
        with self._refuse_damage(name), self._archive.open(name) as member:
            shape, in_fortran_order, stored = _read_header(member)
            array = np.empty(shape[::-1] if in_fortran_order else shape, dtype or stored)
            _fill(array.reshape(-1), stored, member)
            _require_end(member)
        return array.T if in_fortran_order else array

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a parameter as it is stored; an array that is not in C order is read whole first."""
        name, leaf = self._members[path], self.leaves[path]
        with self._refuse_damage(name), self._archive.open(name) as member:
            _, in_fortran_order, stored = _read_header(member)
            if in_fortran_order or not leaf.shape:
                yield from cut(self.read(path))
                return
            for rows in rows_at_a_time(leaf):
                slab = np.empty((rows.stop - rows.start, *leaf.shape[1:]), stored)
                _fill(slab.reshape(-1), stored, member)
                yield slab
            _require_end(member)

    def _header(self, name: str) -> Leaf:
        """Return the shape and dtype of a member, from its first bytes."""
        with self._refuse_damage(name), self._archive.open(name) as member:
            shape, _, dtype = _read_header(member)
            # The size of pickled objects is unknown.
            if not dtype.hasobject and Leaf(shape, dtype).num_bytes > self._archive.getinfo(name).file_size:
                raise ValueError(f"it has fewer bytes than its header says, {Leaf(shape, dtype)}")
        if dtype.hasobject:
            raise CheckpointError(
                f"{self.path}: {name} holds pickled objects, which are never loaded; expected an array of floats"
            )
        return Leaf(shape, dtype)

    @contextmanager
    def _refuse_damage(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # zipfile and numpy raise a dozen kinds, tokenize's among them
            raise CheckpointError(f"{self.path}: {name} is damaged ({error}); get the file again") from error


@contextmanager
def open_npz(path: Path) -> Iterator[PaliGemmaNpz]:
    """Open an official PaliGemma file.

    Args:
      path: the file, local.

    Raises:
      CheckpointError: the file does not exist, is truncated or not an npz, or a member is pickled or damaged.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise CheckpointError(f"{path}: expected an official PaliGemma npz (pt_224.npz), found {found}")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        if foreign := what_it_is(path):
            raise CheckpointError(f"{path}: expected an official PaliGemma npz, found {foreign}") from error
        raise CheckpointError(f"{path}: is no npz, or a truncated one ({error}); get the file again") from error
    with archive:
        yield PaliGemmaNpz(path, archive)


def write_npz(source: Source, path: Path) -> None:
    """Write parameters below ``PaliGemma/`` as an official file; two runs write the same bytes."""
    # Members of an archive have a date; the default of a ZipInfo is always the same.
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, leaf in source.leaves.items():
            member = zipfile.ZipInfo(f"{_PREFIX}{name.removeprefix(_ROOT)}{_NPY}")
            with archive.open(member, "w", force_zip64=True) as file:
                header = {"descr": _descr(leaf.dtype), "fortran_order": False, "shape": leaf.shape}
                np.lib.format.write_array_header_1_0(file, header)
                for slab in slabs_ahead(source, name):
                    file.write(np.ascontiguousarray(slab).reshape(-1).view(np.uint8).data)


def _descr(dtype: np.dtype) -> str:
    """Return numpy's name of a dtype; bfloat16, which has none, is written as two bytes, as in the official file."""
    return "<V2" if dtype == np.dtype(ml_dtypes.bfloat16) else dtype.newbyteorder("<").str


def _leads_out(member: str) -> bool:
    """Return whether a member would be unpacked outside of the archive's folder. Nothing is ever unpacked here."""
    path = PurePosixPath(member.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts


def _param_path(member: str) -> str:
    name = member.removesuffix(_NPY)
    return f"{_ROOT}{name.removeprefix(_PREFIX)}" if name.startswith(_PREFIX) else name


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return the shape, whether the order is Fortran's, and the dtype of the array that follows."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, in_fortran_order, dtype = read(member)
    return shape, in_fortran_order, np.dtype(ml_dtypes.bfloat16) if _is_bfloat16(dtype) else dtype


def _fill(flat: np.ndarray, stored: np.dtype, member: IO[bytes]) -> None:
    """Read and cast the next values of a member, in blocks.

    Each block is cast while it is in the processor's cache, and no other copy is made.
    """
    for start in range(0, flat.size, CACHED_VALUES):
        place = flat[start : start + CACHED_VALUES]
        data = member.read(place.size * stored.itemsize)
        if len(data) < place.size * stored.itemsize:
            raise ValueError("it has fewer bytes than its header says")
        place[:] = np.frombuffer(data, stored)


def _require_end(member: IO[bytes]) -> None:
    """Require that nothing follows; reading to the end makes the archive compare its checksum."""
    if member.read(1):
        raise ValueError("it has more data than its header says")


def _is_bfloat16(dtype: np.dtype) -> bool:
    return dtype == np.dtype("V2")
