"""Compute norm stats of a column of Parquet files, as lerobot's data sets have it: exactly, over all episodes."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pi0_compat.extras import install_line
from pi0_compat.norm_stats.compute import compute_norm_stats
from pi0_compat.norm_stats.stats import Stats

try:
    import pyarrow as pa
    from pyarrow import parquet
except ModuleNotFoundError:  # the extra
    pa = None


def norm_stats_of_parquet(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], column: str = "action"
) -> Stats:
    """Return the statistics of a column over all of its rows, as ``compute_norm_stats`` does.

    Args:
      files: a Parquet file, a folder (all Parquet files below it), or several of them.
      column: its name, for example ``observation.state`` or ``action``: numbers, or lists of equally many.

    Raises:
      ImportError: pyarrow is not installed; the message has the line that installs it.
      FileNotFoundError: there is no Parquet file.
      ValueError: the column is not there, holds nothing at a row, or no numbers; or see ``compute_norm_stats``.
    """
    if pa is None:
        raise ImportError(
            f"reading Parquet needs pyarrow, which the base install does not have: {install_line('parquet')}"
        )
    named = [files] if isinstance(files, str | os.PathLike) else list(files)
    found = [file for name in named for file in _files(Path(name))]
    if not found:
        raise FileNotFoundError(f"no Parquet file at {', '.join(map(str, named))}")
    parts = [part for file in found for part in _parts(file, column)]
    if len({part.shape[1:] for part in parts}) > 1:
        raise ValueError(f"{column} has rows of {sorted({part.shape[1] for part in parts})} numbers; expected one size")
    return compute_norm_stats(np.concatenate(parts) if parts else np.zeros((0, 1)))


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.parquet")) if path.is_dir() else [path]


def _parts(file: Path, column: str) -> Iterator[np.ndarray]:
    opened = parquet.ParquetFile(file)
    if column not in opened.schema_arrow.names:
        raise ValueError(f"{file}: has no column {column}; it has {', '.join(opened.schema_arrow.names)}")
    for batch in opened.iter_batches(columns=[column]):
        yield _vectors(file, column, batch.column(0))


def _vectors(file: Path, column: str, rows: "pa.Array") -> np.ndarray:
    if rows.null_count:
        raise ValueError(f"{file}: {column} has {rows.null_count} rows without a value")
    is_list = pa.types.is_list(rows.type) or pa.types.is_fixed_size_list(rows.type)
    numbers = rows.flatten() if is_list or pa.types.is_large_list(rows.type) else rows
    sizes = set(rows.value_lengths().to_pylist()) if numbers is not rows else {1}
    if numbers.null_count or len(sizes) > 1:
        raise ValueError(f"{file}: {column} has rows of {sorted(sizes)} numbers; expected one size, and no gaps")
    values = np.asarray(numbers.to_numpy(zero_copy_only=False))
    if values.dtype.kind not in "buif":
        raise ValueError(f"{file}: {column} is {rows.type}; expected numbers, or lists of numbers")
    return values.reshape(len(rows), -1) if len(rows) else values.reshape(0, *sizes)
