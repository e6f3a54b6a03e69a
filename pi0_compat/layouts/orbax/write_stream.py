"""A checkpoint that openpi and ``restore_params`` read, written a slab at a time.

orbax saves a tree as a whole, from memory. What it notes of a tree has no numbers and no shapes in it, though, so
orbax writes that itself, of a tree with the same names; the arrays, which it keeps as zarr in a key-value store of
tensorstore (OCDBT), are streamed into a store of the same kind, which takes the place of the small one.
"""

import itertools
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from pi0_compat import params as tree
from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.orbax.metadata import SUFFIX, read_metadata, require_distinct_names
from pi0_compat.layouts.orbax.read_stream import StoredParameters
from pi0_compat.params import Leaf
from pi0_compat.progress import Progress, no_progress
from pi0_compat.storage import digests as integrity
from pi0_compat.storage.stream import BLOCK_BYTES, Counted, Source, regrouped, slabs_ahead, windows

# Small enough to be encoded on all cores and decoded a few at a time; orbax has 2 GB.
_LARGEST_CHUNK = BLOCK_BYTES
# orbax's own: numbers in data files, metadata in the nodes of the tree.
_STORE = {
    "driver": "ocdbt",
    "assume_config": True,
    "target_data_file_size": 2**31,
    "config": {"max_inline_value_bytes": 1024, "max_decoded_node_bytes": 100_000_000, "manifest_kind": "single"},
}
_COMPRESSOR = {"id": "zstd", "level": 1}
_PROCESS = "ocdbt.process_0"
_STORE_FILES = ("d", "manifest.ocdbt")


def save_streamed(
    source: Source,
    folder: Path,
    *,
    lora: Mapping[str, Any] | None,
    title: str = "saving",
    progress: Progress = no_progress,
) -> None:
    """Write a checkpoint to a folder that is not there yet, read it back, and compare every parameter.

    Args:
      source: what to save.
      folder: the ``params`` folder to make.
      lora: rank and alpha of the adapters, as in ``Pi0Spec.lora``; None if they are not known.
      title: what is going on, for those who watch.
      progress: is told how far it is.

    Raises:
      CheckpointError: a parameter that is read back is not what was meant.
      OSError: the disk is full, or the folder cannot be written.
      ValueError: two names cannot both be stored.
    """
    require_distinct_names(source.leaves)
    arrays = folder.with_name(f"{folder.name}.arrays")
    with progress(title, tree.num_bytes(source.leaves)) as advance:
        counted = Counted(source, advance)
        digests = _write_all(counted, arrays / _PROCESS)
    _save_names(folder, source.leaves, {"value_suffix": True, "lora": lora, "digests": integrity.as_record(digests)})
    _replace_store(folder, arrays)
    _verify(folder, source.leaves, progress)


def chunk_shape(leaf: Leaf) -> tuple[int, ...]:
    """How an array is cut: along its first axes, into equal parts, so that a slab is a few whole chunks."""
    chunk = list(leaf.shape)
    for axis in range(len(chunk)):
        if math.prod(chunk) * leaf.dtype.itemsize <= _LARGEST_CHUNK:
            break
        row = math.prod(chunk[axis + 1 :]) * leaf.dtype.itemsize
        chunk[axis] = max(size for size in _divisors(chunk[axis]) if size * row <= max(row, _LARGEST_CHUNK))
    return tuple(chunk)


def _divisors(length: int) -> Iterator[int]:
    return (size for size in range(1, length + 1) if length % size == 0)


def _write_all(source: Source, folder: Path) -> dict[str, str]:
    """Stream all parameters into a store; the digests of what was written."""
    digests = {}
    for group in windows({path: leaf.num_bytes for path, leaf in source.leaves.items()}):
        # Every write waits for the disk: small arrays are written in one.
        small = all(chunk_shape(source.leaves[path]) == source.leaves[path].shape for path in group)
        with _disk_errors(folder), ts.Transaction() if small else nullcontext() as transaction:
            for path in group:
                digests[path] = _write(source, path, _create(folder, path, source.leaves[path], transaction))
    return digests


def _write(source: Source, path: str, store: Any) -> str:
    """Stream a parameter into its array; its digest."""
    leaf = source.leaves[path]
    digest, first, slabs = integrity.Digest(leaf), 0, slabs_ahead(source, path)
    for slab in regrouped(slabs, chunk_shape(leaf)[0]) if leaf.shape else slabs:
        part = store[first : first + len(slab)] if leaf.shape else store
        writing = part.write(slab)
        digest.update(slab)
        writing.result()
        first += len(slab) if leaf.shape else 0
    return digest.hexdigest()


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """What tensorstore cannot write is an error of the disk, and is told without its kilobytes of spec."""
    try:
        yield
    except ValueError as error:
        raise OSError(f"{folder}: could not be written ({str(error).partition(' [')[0]})") from error


def _create(folder: Path, path: str, leaf: Leaf, transaction: Any) -> Any:
    name = ".".join(("params", *tree.split(path), SUFFIX))
    spec = {
        "driver": "zarr",
        "kvstore": {**_kvstore(folder), "path": f"{name}/"},
        "dtype": leaf.dtype.name,
        "metadata": {"shape": leaf.shape, "chunks": chunk_shape(leaf), "compressor": _COMPRESSOR},
        "store_data_equal_to_fill_value": True,
    }
    return ts.open(spec, create=True, open=True, transaction=transaction).result()


def _kvstore(folder: Path) -> dict[str, Any]:
    return {**_STORE, "base": {"driver": "file", "path": f"{folder}/"}}


def _save_names(folder: Path, leaves: Mapping[str, Leaf], metadata: Mapping[str, Any]) -> None:
    """Have orbax save the tree, with a single number in the place of every array."""
    named = {f"{path}/{SUFFIX}": np.zeros((1,) * len(leaf.shape), leaf.dtype) for path, leaf in leaves.items()}
    item = ocp.args.PyTreeSave(item={"params": tree.unflatten(named)}, custom_metadata=dict(metadata))
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(folder, args=item)


def _replace_store(folder: Path, arrays: Path) -> None:
    """Put streamed arrays where orbax's are, and the store that readers open on top of them."""
    for old in [*(folder / name for name in _STORE_FILES), *folder.glob("ocdbt.process_*")]:
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()
    (arrays / _PROCESS).rename(folder / _PROCESS)
    arrays.rmdir()
    # Only stores of one context can refer to each other's numbers.
    context = ts.Context()
    part, store = (ts.KvStore.open(_kvstore(f), context=context).result() for f in (folder / _PROCESS, folder))
    with ts.Transaction(atomic=True) as transaction:
        part.experimental_copy_range_to(store.with_transaction(transaction)).result()


def _verify(folder: Path, leaves: Mapping[str, Leaf], progress: Progress = no_progress) -> None:
    """Read everything back; the reader compares it with the digests of what was meant."""
    stored = read_metadata(folder)
    if found := tree.differences(leaves, stored.leaves):
        raise CheckpointError(f"{folder}: what was written is not what was meant; nothing was kept\n{found}")
    written = StoredParameters(stored)
    with progress("reading it back", tree.num_bytes(written.leaves)) as advance:
        for slab in itertools.chain.from_iterable(slabs_ahead(written, path) for path in leaves):
            advance(slab.nbytes)
