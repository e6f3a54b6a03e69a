"""Which folder holds an orbax checkpoint, and what to pass in place of one that does not."""

import os
from pathlib import Path

from pi0_compat.errors import CheckpointError
from pi0_compat.storage.download import fetch

METADATA_FILE = "_METADATA"
# The folder of a step that holds what it serves, and the only key at the top of openpi's tree.
PARAMS = "params"
# The folder of a step that holds what training goes on from.
TRAIN_STATE = "train_state"
# Orbax renames a folder of this name when it is whole.
_UNFINISHED = ".orbax-checkpoint-tmp"


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
        return f"{torch[0]} is a PyTorch checkpoint, which has another layout: use a loader for that one"
    children = sorted(child.name for child in folder.iterdir())
    if not children:
        return "it is empty"
    more = ", ..." if len(children) > 5 else ""
    return f"it has {', '.join(children[:5])}{more}; pass the `{PARAMS}` folder of a checkpoint"


def _file_advice(file: Path) -> str:
    if file.suffix == ".npz":
        return "; for an official PaliGemma npz use PaliGemmaWeightLoader(path)"
    if file.suffix == ".safetensors":
        return "; a PyTorch checkpoint has another layout: use a loader for that one"
    return f"; pass its folder, {file.parent}" if holds_tree(file.parent) else ""
