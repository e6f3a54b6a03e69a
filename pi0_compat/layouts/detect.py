"""Detect the layout of a checkpoint from file and parameter names alone.

This is where a path enters: it is fetched here, and everything below takes the result.
"""

import os
from pathlib import Path
from typing import NamedTuple

from pi0_compat.layouts.layout import ADAPTER_WEIGHTS, Detected, Layout
from pi0_compat.layouts.lerobot.recognize import policy_family
from pi0_compat.layouts.orbax.folder import PARAMS, TRAIN_STATE, holds_tree, require_tree, steps_of
from pi0_compat.layouts.orbax.metadata import top_names
from pi0_compat.layouts.torch.safetensors_folder import INDEX, WEIGHTS_FILE, recorded_beside, tensors_of
from pi0_compat.paths import TORCH_ROOT
from pi0_compat.storage.download import fetch


class _Match(NamedTuple):
    """Everything of a ``Detected`` but where the search began."""

    layout: Layout
    path: Path
    step: Path | None = None


def detect(path: str | os.PathLike[str]) -> Detected:
    """Return the checkpoint that a path leads to, with its layout; the folder of a step or run is followed.

    Args:
      path: a file or folder of any layout, local or a URL, which is downloaded once into the cache.

    Raises:
      CheckpointError: the path does not lead to a checkpoint of a known layout, and the message says what it leads to
        and what to pass instead; or the download failed.
    """
    root = fetch(path)
    return Detected(*(_folder(root) if root.is_dir() else _file(root)), root)


def _file(path: Path) -> _Match:
    if path.suffix == ".npz":
        return _Match(Layout.PALIGEMMA_NPZ, path)
    if path.suffix == ".safetensors" or path.name.endswith(".safetensors.index.json"):
        return _torch(path)
    return _orbax(require_tree(path))  # which raises


def _folder(path: Path) -> _Match:
    if holds_tree(path):
        return _orbax(require_tree(path))
    if (path / ADAPTER_WEIGHTS).is_file():
        return _Match(Layout.PEFT, path)
    torch = any((path / name).is_file() for name in (WEIGHTS_FILE, INDEX))
    if holds_tree(path / PARAMS) and not torch:
        return _orbax(path / PARAMS)._replace(step=path)
    if torch:
        return _torch(path)
    if steps := steps_of(path):
        return _orbax(steps[-1] / PARAMS)
    return _orbax(require_tree(path))  # which raises


def _orbax(path: Path) -> _Match:
    tops = top_names(path)
    # Only orbax's own folders of a step: any folder may have a parent that is called 2026.
    step = path.parent if path.parent.name.isdigit() and path.name in (PARAMS, TRAIN_STATE) else None
    if {"opt_state", "step"} & tops:
        return _Match(Layout.TRAIN_STATE, path, step)
    if PARAMS in tops:
        return _Match(Layout.OPENPI, path, step)
    if any(top.startswith(("transformer", "layer_", "embedder")) for top in tops):
        return _Match(Layout.GEMMA_FLAX, path)
    return _Match(Layout.UNKNOWN, path, step)


def _torch(path: Path) -> _Match:
    names = tensors_of(path)
    if path.name == ADAPTER_WEIGHTS:
        return _Match(Layout.PEFT, path.parent)
    ours = any(f"{TORCH_ROOT}." in name for name in names)
    if ours and policy_family(recorded_beside(path)):
        return _Match(Layout.LEROBOT, path)
    return _Match(Layout.OPENPI_PYTORCH if ours else Layout.HUGGING_FACE, path)
