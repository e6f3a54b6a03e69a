"""Which layout a path is in, from names alone; folders of a step or a run are followed to what they serve."""

import enum
import json
from pathlib import Path
from typing import Any, NamedTuple

from suite.reference.errors import CheckpointError
from suite.reference.finding import METADATA_FILE, find_params
from suite.reference.layouts.openpi_pytorch import CONFIG_FILE
from suite.reference.layouts.safetensors_folder import INDEX, SINGLE, open_tensors
from suite.reference.params import Leaf

ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PARAMS = "params"


class Layout(enum.StrEnum):
    """How a checkpoint is stored."""

    OPENPI = "openpi"  # orbax, a tree of {"params": ...}
    TRAIN_STATE = "train-state"  # orbax, what training needs beside the parameters
    GEMMA_FLAX = "gemma-flax"  # orbax, layers side by side
    PALIGEMMA_NPZ = "paligemma-npz"
    OPENPI_PYTORCH = "openpi-pytorch"
    HUGGING_FACE = "huggingface"
    PEFT = "peft"


class Recognised(NamedTuple):
    """A checkpoint whose layout is known; nothing of it has been read but names.

    Attributes:
      layout: how it is stored.
      path: the folder or file that holds the arrays.
      step: the folder of the training step that it belongs to, if it does.
    """

    layout: Layout
    path: Path
    step: Path | None = None


def recognise(path: Path) -> Recognised:
    """The layout of a local path.

    Raises:
      CheckpointError: it is no checkpoint that is known; the message says what is there and what to pass.
    """
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".npz":
        return Recognised(Layout.PALIGEMMA_NPZ, path)
    if path.suffix == ".safetensors" or path.name.endswith(".safetensors.index.json"):
        return _torch(path)
    return _orbax(find_params(path))


def tensors_of(path: Path) -> dict[str, Leaf]:
    """Name -> shape and dtype of every tensor of a safetensors file or folder.

    Raises:
      CheckpointError: there is none, or a damaged one.
    """
    with open_tensors(path) as tensors:
        return dict(tensors.leaves)


def recorded_beside(path: Path) -> dict[str, Any]:
    """What the ``config.json`` of a PyTorch checkpoint says; nothing where there is none or it cannot be read."""
    file = (path if path.is_dir() else path.parent) / CONFIG_FILE
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def steps_of(run: Path) -> list[Path]:
    """The folders of a run's steps that hold parameters, the latest last."""
    steps = [child for child in run.iterdir() if child.name.isdigit() and _holds_tree(child / _PARAMS)]
    return sorted(steps, key=lambda step: int(step.name))


def _folder(path: Path) -> Recognised:
    if _holds_tree(path):
        return _orbax(find_params(path))
    if (path / ADAPTER_WEIGHTS).is_file():
        return Recognised(Layout.PEFT, path)
    torch = any((path / name).is_file() for name in (SINGLE, INDEX))
    if _holds_tree(path / _PARAMS) and not torch:
        return Recognised(Layout.OPENPI, path / _PARAMS, path)
    if torch:
        return _torch(path)
    if steps := steps_of(path):
        return Recognised(Layout.OPENPI, steps[-1] / _PARAMS, steps[-1])
    return _orbax(find_params(path))


def _orbax(path: Path) -> Recognised:
    tops = top_names(path)
    step = path.parent if path.parent.name.isdigit() else None
    if _PARAMS in tops and not {"opt_state", "step"} & tops:
        return Recognised(Layout.OPENPI, path, step)
    if {"opt_state", "step"} & tops:
        return Recognised(Layout.TRAIN_STATE, path, step)
    if any(top.startswith(("transformer", "layer_", "embedder")) for top in tops):
        return Recognised(Layout.GEMMA_FLAX, path)
    raise CheckpointError(
        f"{path}: an orbax checkpoint of neither pi0 nor Gemma; expected the top level params, found {sorted(tops)[:5]}"
    )


def top_names(folder: Path) -> set[str]:
    """The names at the top of an orbax tree.

    Raises:
      CheckpointError: its metadata cannot be read.
    """
    return {entry.keys[0] for entry in tree_entries(folder) if entry.keys}


class TreeEntry(NamedTuple):
    """A leaf of an orbax tree: its nested names, and what orbax calls its kind, ``jax.Array`` or ``np.ndarray``."""

    keys: tuple[str, ...]
    kind: str


def tree_entries(folder: Path) -> list[TreeEntry]:
    """All leaves of an orbax tree, empty nodes too.

    Raises:
      CheckpointError: its metadata cannot be read.
    """
    file = folder / METADATA_FILE
    try:
        entries = json.loads(file.read_text())["tree_metadata"].values()
        return [
            TreeEntry(
                tuple(str(part["key"]) for part in entry["key_metadata"]), str(entry["value_metadata"]["value_type"])
            )
            for entry in entries
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: is no metadata of orbax ({error!r:.120}); get the checkpoint again") from error


def _torch(path: Path) -> Recognised:
    names = tensors_of(path)
    if path.name == ADAPTER_WEIGHTS:
        return Recognised(Layout.PEFT, path.parent)
    ours = any("paligemma_with_expert." in name for name in names)
    return Recognised(Layout.OPENPI_PYTORCH if ours else Layout.HUGGING_FACE, path)


def _holds_tree(folder: Path) -> bool:
    return (folder / METADATA_FILE).is_file()
