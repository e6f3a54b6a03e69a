"""Which folder holds an orbax checkpoint, and what to pass in place of one that does not."""

import itertools
import os
from pathlib import Path

from pi0_compat.errors import CheckpointError
from pi0_compat.storage.download import fetch
from pi0_compat.storage.foreign import PICKLE, is_pickle_by_name, what_it_is

METADATA_FILE = "_METADATA"
# The folder of a step that holds what it serves, and the only key at the top of openpi's tree.
PARAMS = "params"
# The folder of a step that holds what training goes on from.
TRAIN_STATE = "train_state"
# Orbax renames a folder of this name when it is whole.
_UNFINISHED = ".orbax-checkpoint-tmp"
# Where orbax's newer interface puts a tree (from 0.12, and before), and a checkpoint manager without names.
_TREES = ("state", "pytree", "default")
# What lerobot calls the folder of a policy.
_POLICY = "pretrained_model"
# Children of a folder that are looked into for checkpoints.
_MOST_CHILDREN = 1000


def find_params(path: str | os.PathLike[str]) -> Path:
    """Return the local folder of the orbax checkpoint at exactly this path.

    Unlike ``detect``, this does not follow the folder of a step or run: the error says which folder to pass.

    Args:
      path: the ``params`` folder, local or a URL, which is downloaded once into the cache.

    Raises:
      CheckpointError: the path does not lead to an orbax checkpoint, or the download failed.
    """
    return require_tree(fetch(path))


def require_tree(folder: Path) -> Path:
    """Return a local folder that holds an orbax checkpoint; reject any other path with advice on what to pass.

    Raises:
      CheckpointError: the path does not exist, is a file, is left over from a killed save, or holds no checkpoint.
    """
    if not folder.exists():
        raise CheckpointError(f"{folder}: no such folder; expected the `params` folder of a checkpoint")
    if folder.is_file() and (foreign := _foreign(folder)):
        raise CheckpointError(f"{folder}: expected a checkpoint, found {foreign}")
    if folder.is_file():
        raise CheckpointError(
            f"{folder}: is a file; expected the `params` folder of a checkpoint{_file_advice(folder)}"
        )
    if _UNFINISHED in folder.name:
        raise CheckpointError(f"{folder}: is what a killed save left behind; pass a folder that was saved to the end")
    if not holds_tree(folder):
        raise CheckpointError(f"{folder}: holds no checkpoint (no {METADATA_FILE}); {_folder_advice(folder)}")
    return folder


def holds_tree(folder: Path) -> bool:
    """Return whether the folder itself is an orbax checkpoint, judging by its metadata file."""
    return (folder / METADATA_FILE).is_file()


def steps_of(run: Path) -> list[Path]:
    """Return the folders of a run's steps that hold parameters, the latest last."""
    steps = [child for child in run.iterdir() if child.name.isdigit() and holds_tree(child / PARAMS)]
    return sorted(steps, key=lambda step: int(step.name))


def _folder_advice(folder: Path) -> str:
    """Say what a folder without a checkpoint is, as far as its contents show, and what to pass instead."""
    torch = sorted(file.name for file in folder.glob("*.safetensors"))
    if holds_tree(folder / PARAMS):
        beside = f"; {torch[0]} beside it is another model, and nothing says which of the two is meant" if torch else ""
        return f"this is the folder of a step: pass {folder / PARAMS}{beside}"
    if steps := steps_of(folder):
        return f"this is the folder of a run: pass {steps[-1] / PARAMS}"
    if holds_tree(folder.parent / PARAMS):
        return f"the parameters are beside it: pass {folder.parent / PARAMS}"
    if torch:
        return _torch_advice(folder, torch)
    if words := _known_contents(folder):
        return words
    children = sorted(child.name for child in folder.iterdir())
    if not children:
        return "it is empty"
    more = ", ..." if len(children) > 5 else ""
    return f"it has {', '.join(children[:5])}{more}; pass the `{PARAMS}` folder of a checkpoint"


def _torch_advice(folder: Path, files: list[str]) -> str:
    if len(files) > 1:
        return (
            f"{files[0]} and {len(files) - 1} more are of a PyTorch checkpoint, without the index that says what is "
            "where: get model.safetensors.index.json too, or pass one of the files"
        )
    return f"{files[0]} is a PyTorch checkpoint: pass the file, {folder / files[0]}, to a loader of PyTorch's layouts"


def _known_contents(folder: Path) -> str | None:
    """Say what else a folder is, and what to pass in its place; None if nothing below it is known."""
    if tree := next((folder / name for name in _TREES if holds_tree(folder / name)), None):
        return f"orbax has put the tree into a folder of its own: pass {tree}"
    if steps := _numbered(folder, *_TREES):
        return f"this is the folder of a run: pass {steps[-1]}"
    for place in (folder, folder / "checkpoints"):
        if (place / _POLICY).is_dir():
            return f"this is the folder of a step of lerobot's: pass {place / _POLICY}"
        if steps := _numbered(place, _POLICY):
            return f"this is the folder of a run of lerobot's: pass {steps[-1]}"
    pickles = sorted(file.name for file in folder.iterdir() if file.is_file() and is_pickle_by_name(file))
    if pickles:
        return f"{pickles[0]} is {PICKLE}"
    if below := _checkpoints_below(folder):
        more = f" ({len(below)} checkpoints are below it)" if len(below) > 1 else ""
        return f"it is a folder of checkpoints: pass {below[0]}{more}"
    return None


def _numbered(folder: Path, *names: str) -> list[Path]:
    """Return what has one of these names in the numbered folders of a run, the latest last."""
    if not folder.is_dir():
        return []
    found = [step / name for step in folder.iterdir() if step.name.isdigit() for name in names]
    there = [place for place in found if holds_tree(place) or (place.name == _POLICY and place.is_dir())]
    return sorted(there, key=lambda place: int(place.parent.name))


def _checkpoints_below(folder: Path) -> list[Path]:
    """Return the children that are, or directly hold, a checkpoint; of a folder with many, only the first."""
    with os.scandir(folder) as entries:
        children = sorted(Path(entry.path) for entry in itertools.islice(entries, _MOST_CHILDREN) if entry.is_dir())
    return [child for child in children if holds_tree(child) or holds_tree(child / PARAMS) or _holds_torch(child)]


def _holds_torch(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))


def _foreign(file: Path) -> str | None:
    """Say what a file is that is none of a checkpoint, by its content or else by its name."""
    if foreign := what_it_is(file):
        return foreign
    return f"a file named like {PICKLE}" if is_pickle_by_name(file) else None


def _file_advice(file: Path) -> str:
    if file.suffix == ".npz":
        return "; for an official PaliGemma npz use PaliGemmaWeightLoader(path)"
    if file.suffix == ".safetensors":
        return "; a PyTorch checkpoint has another layout: use a loader for that one"
    return f"; pass its folder, {file.parent}" if holds_tree(file.parent) else ""
