"""Which folder a checkpoint is, and what a path is that leads to none: steps, runs, other formats, leftovers."""

import os
from pathlib import Path

from pi0_compat.errors import CheckpointError
from pi0_compat.storage.download import fetch

METADATA_FILE = "_METADATA"
# Orbax renames a folder of this name when it is whole.
_UNFINISHED = ".orbax-checkpoint-tmp"


def find_params(path: str | os.PathLike[str]) -> Path:
    """The local folder of a checkpoint; a wrong one is refused with what is there and what to pass instead."""
    folder = fetch(path)
    if not folder.exists():
        raise CheckpointError(f"{folder}: no such folder; expected the `params` folder of a checkpoint")
    if folder.is_file():
        raise CheckpointError(
            f"{folder}: is a file; expected the `params` folder of a checkpoint{_file_advice(folder)}"
        )
    if _UNFINISHED in folder.name:
        raise CheckpointError(f"{folder}: is what a killed save left behind; pass a folder that was saved to the end")
    if not _holds_checkpoint(folder):
        raise CheckpointError(f"{folder}: holds no checkpoint (no {METADATA_FILE}); {_folder_advice(folder)}")
    return folder


def _folder_advice(folder: Path) -> str:
    """What a folder without a checkpoint is, as far as its content tells."""
    torch = sorted(file.name for file in folder.glob("*.safetensors"))
    if _holds_checkpoint(folder / "params"):
        beside = f"; {torch[0]} beside it is another model, and nothing says which of the two is meant" if torch else ""
        return f"this is the folder of a step: pass {folder / 'params'}{beside}"
    steps = [child for child in folder.iterdir() if child.name.isdigit() and _holds_checkpoint(child / "params")]
    if steps:
        return f"this is the folder of a run: pass {max(steps, key=lambda step: int(step.name)) / 'params'}"
    if _holds_checkpoint(folder.parent / "params"):
        return f"the parameters are beside it: pass {folder.parent / 'params'}"
    if torch:
        return f"{torch[0]} is a PyTorch checkpoint, which has another layout: use a loader for that one"
    children = sorted(child.name for child in folder.iterdir())
    return f"it has {children[:5]}" if children else "it is empty"


def _holds_checkpoint(folder: Path) -> bool:
    return (folder / METADATA_FILE).is_file()


def _file_advice(file: Path) -> str:
    if file.suffix == ".npz":
        return "; for an official PaliGemma npz use PaliGemmaWeightLoader(path)"
    if file.suffix == ".safetensors":
        return "; a PyTorch checkpoint has another layout: use a loader for that one"
    return f"; pass its folder, {file.parent}" if _holds_checkpoint(file.parent) else ""
