"""Write a checkpoint that openpi and ``restore_params`` read, a block at a time and without orbax.

Orbax saves a tree as a whole, from memory. Here its arrays, which orbax keeps as zarr in a key-value store of
tensorstore (OCDBT), are streamed into a store of the same kind (``write_arrays``), and the files beside it are written
as orbax writes them for a tree of numpy arrays. Tests compare them with orbax's own, and orbax reads the result.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tensorstore as ts

from pi0_compat import params as tree
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.orbax.folder import METADATA_FILE, PARAMS
from pi0_compat.layouts.orbax.metadata import SUFFIX, read_metadata, require_distinct_names
from pi0_compat.layouts.orbax.write_arrays import WrittenArray, read_back, write_arrays
from pi0_compat.params import Leaf
from pi0_compat.progress import Progress, no_progress
from pi0_compat.storage import digests as integrity
from pi0_compat.storage.stream import Source
from pi0_compat.text import shorten

# As orbax has it: numbers in data files, metadata in the nodes of the tree.
_STORE = {
    "driver": "ocdbt",
    "assume_config": True,
    "target_data_file_size": 2**31,
    "config": {"max_inline_value_bytes": 1024, "max_decoded_node_bytes": 100_000_000, "manifest_kind": "single"},
}
_PROCESS = "ocdbt.process_0"
# What an interrupted write may take to end.
_LONGEST_SECONDS = 20.0
# How orbax notes that a key is the name of a node in a dictionary.
_NAME = 2


def save_streamed(
    source: Source,
    folder: Path,
    *,
    lora: Mapping[str, Any] | None,
    family: str | None = None,
    title: str = "saving",
    progress: Progress = no_progress,
) -> None:
    """Write a checkpoint, read it back, and compare every parameter.

    Args:
      source: what to save.
      folder: the ``params`` folder to make; it must not exist. After an error, part of it is left.
      lora: rank and alpha of the adapters, as in ``Pi0Spec.lora``; None if they are not known.
      family: the model's, or that of adapters alone; their names do not always show it. None if it is not known.
      title: what is going on, for the progress display.
      progress: receives the number of bytes as they are written and read back.

    Raises:
      CheckpointError: a parameter that is read back differs from the source.
      OSError: the folder exists or cannot be written, or the disk is full.
      LoadError: a parameter has no values.
      ValueError: two names cannot both be stored.
    """
    require_distinct_names(source.leaves, value_suffix=True)
    if empty := [f"{path}: {leaf}" for path, leaf in source.leaves.items() if 0 in leaf.shape]:
        raise LoadError(f"{source.path}: {empty[0]} has no values, and orbax cannot store it; get the file again")
    started = time.time_ns()
    folder.mkdir(parents=True)
    with progress(title, tree.num_bytes(source.leaves)) as advance:
        names = {path: f"{'.'.join((PARAMS, *tree.split(path), SUFFIX))}/" for path in source.leaves}
        written = write_arrays(source, names, folder / _PROCESS, advance)
    with _disk_errors(folder):
        _merge_stores(folder)
    digests = {path: written[path].digest for path in source.leaves}
    _write_metadata(folder, source.leaves, {"lora": lora} | ({"family": family} if family else {}), digests)
    _write_times(folder, started)
    _verify(folder, source.leaves, written, progress)


@contextmanager
def _transaction(*, atomic: bool = False) -> Iterator[ts.Transaction]:
    """Commit what the body writes; after an error nothing is written any more."""
    transaction = ts.Transaction(atomic=atomic)
    try:
        yield transaction
    except BaseException:
        transaction.abort()
        raise
    _settled(transaction.commit_async())


def _settled(writing: Any) -> Any:
    """Wait for a write; when a signal ends the wait, too: a thread that still writes would make its folder again."""
    try:
        return writing.result()
    except BaseException:
        # The first error counts.
        with suppress(Exception):
            writing.result(timeout=_LONGEST_SECONDS)
        raise


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Raise tensorstore's errors of writing as errors of the disk, without the kilobytes of spec."""
    try:
        yield
    except (CheckpointError, LoadError):
        raise  # of what is read meanwhile
    except ValueError as error:
        raise OSError(f"{folder}: could not be written ({str(error).partition(' [')[0]})") from error


def _kvstore(folder: Path) -> dict[str, Any]:
    return {**_STORE, "base": {"driver": "file", "path": f"{folder}/"}}


def _merge_stores(folder: Path) -> None:
    """Make the store that readers open; it refers to the numbers in this process's own."""
    # Only stores of one context can refer to each other's numbers.
    context = ts.Context()
    part, store = (ts.KvStore.open(_kvstore(f), context=context).result() for f in (folder / _PROCESS, folder))
    with _transaction(atomic=True) as transaction:
        part.experimental_copy_range_to(store.with_transaction(transaction)).result()


def _write_metadata(
    folder: Path, leaves: Mapping[str, Leaf], facts: Mapping[str, Any], digests: Mapping[str, str]
) -> None:
    """Write the names of all leaves, how they are stored, and our own record."""
    names = sorted((PARAMS, *tree.split(path), SUFFIX) for path in leaves)
    document = {
        "tree_metadata": {str(keys): _leaf_metadata(keys) for keys in names},
        "use_ocdbt": True,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": {"value_suffix": True, **facts, "digests": integrity.as_record(digests)},
    }
    (folder / METADATA_FILE).write_text(json.dumps(document), encoding="utf-8")


def _leaf_metadata(keys: tuple[str, ...]) -> dict[str, Any]:
    return {
        "key_metadata": [{"key": key, "key_type": _NAME} for key in keys],
        "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
    }


def _write_times(folder: Path, started: int) -> None:
    """Write what orbax notes of a save as a whole, and its mark that the save is complete.

    Args:
      folder: the checkpoint.
      started: when the save began, in nanoseconds since 1970.
    """
    document = {
        "item_handlers": "orbax.checkpoint._src.handlers.pytree_checkpoint_handler.PyTreeCheckpointHandler",
        "metrics": {},
        "performance_metrics": {},
        "init_timestamp_nsecs": started,
        "commit_timestamp_nsecs": time.time_ns(),
        "custom_metadata": {},
    }
    (folder / "_CHECKPOINT_METADATA").write_text(json.dumps(document), encoding="utf-8")
    (folder / "commit_success.txt").write_text(f"Checkpoint commit was successful to {folder}", encoding="utf-8")


def _verify(
    folder: Path, leaves: Mapping[str, Leaf], written: dict[str, WrittenArray], progress: Progress = no_progress
) -> None:
    """Read every byte back, and compare it with what was written."""
    if found := tree.differences(leaves, read_metadata(folder).leaves):
        raise CheckpointError(f"{folder}: what was written is not what was meant; nothing was kept\n{found}")
    with progress("reading it back", sum(array.num_bytes for array in written.values())) as advance:
        wrong = read_back(folder, written, advance)
    if wrong:
        lines = "\n".join(shorten([f"  ~ {path}" for path in sorted(wrong)]))
        raise CheckpointError(f"{folder}: damaged: these parameters are not what was saved; nothing was kept\n{lines}")
