"""Checkpoints in another layout. What is written holds the same bits: nothing is cast, dropped or made up."""

import dataclasses
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np

from suite.reference.checkpoints import Stored, read_metadata, restore_leaves, windows
from suite.reference.errors import LoadError
from suite.reference.layouts import openpi_pytorch
from suite.reference.layouts.safetensors_file import write_safetensors
from suite.reference.layouts.torch_rules import Rule
from suite.reference.params import Leaf, Params, is_adapter
from suite.reference.pi0_config import ParamsMismatchError, Pi0Config

LAYOUTS = ("openpi_pytorch",)


def convert_checkpoint(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: Pi0Config,
    layout: str = "openpi_pytorch",
) -> None:
    """Write an openpi checkpoint as a folder in another layout. It appears at ``out`` whole or not at all.

    Every array keeps its dtype and its bits, two conversions give the same bytes, and no more is held at a time than
    one large stacked array, or a few small ones. The ``assets`` beside the checkpoint (norm stats) go along; without
    them there is a warning.

    Args:
      path: the ``params`` folder, local or a URL.
      out: the folder to make; its parents are made too.
      config: the model that the checkpoint is of. Only its sizes and family count, its adapters do not.
      layout: ``openpi_pytorch``, the only one so far.

    Raises:
      ValueError: there is no such layout.
      FileExistsError: something is at ``out``; it is left alone.
      CheckpointError: there is no readable checkpoint at ``path``.
      LoadError: it holds adapters, for which the layout has no place, or is not of ``config``.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; expected one of {', '.join(LAYOUTS)}")
    out = Path(out).expanduser().absolute()
    if out.exists():
        raise FileExistsError(f"{out}: already exists; choose another folder or remove it first")
    stored = read_metadata(path)
    model = _without_adapters(config)
    _require_convertible(stored, model)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        whole = Path(scratch) / out.name
        whole.mkdir()
        _write_pytorch(stored, model, whole)
        _copy_assets(stored.path, whole)
        whole.rename(out)


class _Tensors:
    """The tensors of a checkpoint in openpi's PyTorch layout, cut from its stacked arrays, a few at a time."""

    def __init__(self, stored: Stored, model: Pi0Config) -> None:
        self._stored = stored
        self._held: Params = {}
        self._pieces: dict[str, tuple[Rule, tuple[int, ...]]] = {}
        self.leaves: dict[str, Leaf] = {}
        for rule in openpi_pytorch.rules(model):
            shape, dtype = stored.leaves[rule.path]
            for name, index in rule.pieces():
                self.leaves[name] = Leaf(rule.tensor_shape(shape), dtype)
                self._pieces[name] = rule, index
        sizes = {rule.path: stored.leaves[rule.path].num_bytes for rule, _ in self._pieces.values()}
        self._windows = {path: window for window in windows(sizes) for path in window}
        table = self.leaves[openpi_pytorch.TABLE]
        unused = (table.shape[0], model.action_expert.width)
        self.leaves[openpi_pytorch.UNUSED_HEAD] = Leaf(unused, table.dtype)

    def read(self, name: str) -> np.ndarray:
        """One tensor."""
        if name == openpi_pytorch.UNUSED_HEAD:
            return np.zeros(*self.leaves[name])
        rule, index = self._pieces[name]
        if rule.path not in self._held:
            self._held = {}  # before the next ones are read, so that there is never more than one window
            self._held = restore_leaves(self._stored, dict.fromkeys(self._windows[rule.path]))
        return rule.to_torch(self._held[rule.path][index])


def _without_adapters(config: Pi0Config) -> Pi0Config:
    base = {name: dataclasses.replace(getattr(config, name), lora=None) for name in ("paligemma", "action_expert")}
    return dataclasses.replace(config, **base)


def _require_convertible(stored: Stored, model: Pi0Config) -> None:
    if adapters := [path for path in stored.leaves if is_adapter(path)]:
        raise LoadError(
            f"{stored.path}: {len(adapters)} adapter matrices, for example {adapters[0]}, have no place in the layout "
            "and would be lost; fold them into the weights first: fold(params, config), then save_params"
        )
    try:
        model.require_fit(dict(stored.leaves))
    except ParamsMismatchError as error:
        raise LoadError(f"{stored.path}: {error}") from error


def _write_pytorch(stored: Stored, model: Pi0Config, folder: Path) -> None:
    tensors = _Tensors(stored, model)
    # What transformers asks of a file before it reads it.
    metadata = {"format": "pt"}
    write_safetensors(folder / openpi_pytorch.WEIGHTS_FILE, tensors.leaves, tensors.read, metadata=metadata)
    dtypes = {leaf.dtype.name for leaf in tensors.leaves.values()}
    config = openpi_pytorch.recorded_config(model, dtypes.pop() if len(dtypes) == 1 else "mixed")
    (folder / openpi_pytorch.CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")


def _copy_assets(params: Path, folder: Path) -> None:
    """The norm stats of a step lie beside its parameters; openpi's converter looks one folder too high (bugs G4)."""
    assets = params.parent / openpi_pytorch.ASSETS
    if assets.is_dir():
        shutil.copytree(assets, folder / openpi_pytorch.ASSETS)
    else:
        warnings.warn(f"{assets}: not there; a policy needs norm stats, copy them by hand", stacklevel=3)
