"""Read and write openpi's norm stats: ``assets/<asset_id>/norm_stats.json`` beside the parameters of a step.

The format is that of ``openpi/shared/normalize.py`` at 15a9616: ``{"norm_stats": {"state": {"mean": [...], "std":
[...], "q01": [...] or null, "q99": [...] or null}, "actions": {...}}}``.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pi0_compat.errors import CheckpointError
from pi0_compat.norm_stats.stats import FIELDS, NormStats, Stats
from pi0_compat.storage.foreign import what_it_is

ASSETS, FILE = "assets", "norm_stats.json"
_REQUIRED, _OPTIONAL = ("mean", "std"), ("q01", "q99")
# Real files have a few kilobytes.
_MAX_BYTES = 64 << 20


def read_norm_stats(file: str | os.PathLike[str]) -> NormStats:
    """Return the norm stats of a ``norm_stats.json`` by ``state`` and ``actions``; NaN is read as openpi reads it.

    Args:
      file: the file, or the folder ``assets/<asset_id>`` that has it.

    Raises:
      CheckpointError: there is no such file, or it does not hold norm stats; the message says what it holds.
    """
    file = _named(file)
    document = read_json(file, "norm stats")
    found = document.get("norm_stats") if isinstance(document, dict) else None
    if not isinstance(found, dict) or not found:
        keys = f"an object with {sorted(document)[:5]}" if isinstance(document, dict) else type(document).__name__
        raise CheckpointError(f'{file}: expected {{"norm_stats": {{"state": ..., "actions": ...}}}}, found {keys}')
    return {name: _stats(file, name, values) for name, values in found.items()}


def read_json(file: Path, what: str) -> Any:
    """Return the content of a small JSON file.

    Args:
      file: the file.
      what: what it should hold, for messages.

    Raises:
      CheckpointError: it cannot be read, is too large for this, or is no JSON.
    """
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise CheckpointError(f"{file}: has {file.stat().st_size} bytes; expected {what} of a few kilobytes")
        text = file.read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise CheckpointError(f"{file}: expected {what}, cannot read it ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: expected {what} as JSON, found {_looks_like(file)} ({error!s:.200})") from error


def _looks_like(file: Path) -> str:
    return what_it_is(file) or ("something else" if file.stat().st_size else "an empty file")


def _stats(file: Path, name: str, values: Any) -> Stats:
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: {name} is {values!r:.80}; expected mean, std, q01 and q99")
    if lacking := [key for key in _REQUIRED if values.get(key) is None]:
        raise CheckpointError(f"{file}: {name} has no {lacking[0]}, which openpi requires; found {sorted(values)}")
    return Stats(**{key: _vector(file, f"{name}.{key}", values[key]) for key in FIELDS if values.get(key) is not None})


def _vector(file: Path, name: str, values: Any) -> np.ndarray:
    try:
        vector = np.asarray(values)
    except ValueError as error:
        raise CheckpointError(f"{file}: {name} is {values!r:.80}; expected a list of numbers") from error
    if vector.ndim != 1 or vector.dtype.kind not in "iuf" or not vector.size:
        raise CheckpointError(f"{file}: {name} is {values!r:.80}; expected a list of numbers")
    return vector.astype(np.float64)


def write_norm_stats(stats: Mapping[str, Stats], file: str | os.PathLike[str]) -> Path:
    """Write norm stats as openpi does; reading them back gives the same float64 bits, two runs give the same bytes.

    Args:
      stats: by ``state`` and ``actions``, with mean and std of each; q01 and q99 become null where unknown, min, max,
        q10 and q90 are left out.
      file: the ``norm_stats.json`` to make, or the folder ``assets/<asset_id>`` for it; folders are made too.

    Returns:
      The file.

    Raises:
      ValueError: a mean or std is unknown.
    """
    file = _named(file)
    document = {name: _plain(name, one) for name, one in stats.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"norm_stats": document}, indent=2))
    return file


def _named(file: str | os.PathLike[str]) -> Path:
    path = Path(file)
    return path if path.suffix == ".json" else path / FILE


def _plain(name: str, stats: Stats) -> dict[str, list[float] | None]:
    if not stats.has(*_REQUIRED):
        raise ValueError(f"{name} has no mean or std, which openpi requires")
    return {key: None if (x := getattr(stats, key)) is None else x.tolist() for key in (*_REQUIRED, *_OPTIONAL)}


def asset_files(step: Path) -> dict[str, Path]:
    """Return the file of every asset id below a step's ``assets``: an id is the folder's path below it.

    Args:
      step: the folder that has ``assets``.
    """
    assets = step / ASSETS
    files = sorted(assets.rglob(FILE)) if assets.is_dir() else []
    return {file.parent.relative_to(assets).as_posix(): file for file in files}
