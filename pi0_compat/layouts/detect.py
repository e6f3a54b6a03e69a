"""Which layout a path is in, from names alone; folders of a step or a run are followed to what they serve."""

from pathlib import Path

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.layout import ADAPTER_WEIGHTS, Layout, Recognised
from pi0_compat.layouts.orbax.folder import METADATA_FILE, find_params
from pi0_compat.layouts.orbax.metadata import top_names
from pi0_compat.layouts.torch.safetensors_folder import INDEX, SINGLE, tensors_of

_PARAMS = "params"


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


def _torch(path: Path) -> Recognised:
    names = tensors_of(path)
    if path.name == ADAPTER_WEIGHTS:
        return Recognised(Layout.PEFT, path.parent)
    ours = any("paligemma_with_expert." in name for name in names)
    return Recognised(Layout.OPENPI_PYTORCH if ours else Layout.HUGGING_FACE, path)


def _holds_tree(folder: Path) -> bool:
    return (folder / METADATA_FILE).is_file()
