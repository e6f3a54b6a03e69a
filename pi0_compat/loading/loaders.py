"""Load the parameters of a new model from a checkpoint or an official release.

Each loader returns every parameter of the model and a ``LoadReport`` that accounts for each leaf of model and
checkpoint. Paths, shapes and dtypes are settled from the metadata before an array is read; arrays are then read one
by one, already cast.
"""

import dataclasses
import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from pi0_compat.floats import count_nonfinite
from pi0_compat.layouts.gemma_flax import open_gemma, require_sizes
from pi0_compat.layouts.orbax.folder import find_params
from pi0_compat.layouts.orbax.lora_record import require_same_lora
from pi0_compat.layouts.orbax.metadata import Metadata, read_metadata
from pi0_compat.layouts.orbax.read import restore_leaves
from pi0_compat.layouts.paligemma_npz import open_npz
from pi0_compat.layouts.torch.hugging_face import open_hugging_face
from pi0_compat.layouts.torch.merged import MergedTensors
from pi0_compat.layouts.torch.openpi import open_pytorch
from pi0_compat.layouts.torch.peft_reading import read_peft
from pi0_compat.loading.match import (
    complete,
    expected_leaves,
    inspect,
    load_from,
    refuse,
    refuse_half_adapters,
    settle,
    to_read,
)
from pi0_compat.loading.report import Entry, LoadReport, Status
from pi0_compat.loading.resize import Extended, Resampled
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.params import Leaf, Params
from pi0_compat.paths import TOKEN_TABLE, in_gemma, in_paligemma, is_adapter
from pi0_compat.storage.digests import notes
from pi0_compat.storage.download import fetch
from pi0_compat.storage.stream import Source

PALIGEMMA_URL = "gs://vertex-model-garden-paligemma-us/paligemma/pt_224.npz"


class WeightLoader(Protocol):
    """An object that loads the parameters of a model."""

    def load(self, model: Pi0Spec, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """Return all parameters of the model, and what was done to each.

        Args:
          model: the model to load into.
          seed: for parameters that the source may lack.
          frozen_dtype: the dtype of parameters that LoRA freezes; the others, and by default all, are float32.

        Returns:
          path -> host array, and the report.
        """


@dataclasses.dataclass(frozen=True)
class NoOpWeightLoader:
    """Initialize every parameter: training from scratch, which is rarely intended (openpi PR #815)."""

    def load(self, model: Pi0Spec, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """Return fresh parameters, with a warning."""
        warnings.warn("no weight loader: every parameter is freshly initialized", stacklevel=2)
        expected = expected_leaves(model, frozen_dtype)
        report = LoadReport("no source", tuple(settle(expected, {}, lambda path: True)))
        return complete({}, model, seed, expected), report


@dataclasses.dataclass(frozen=True)
class CheckpointWeightLoader:
    """Load a pi0 checkpoint, released or trained; only adapters may be missing, and none may be left over.

    Attributes:
      path: the checkpoint's ``params`` folder, local or a URL.
      verify: compare parameters with the digests that the checkpoint records, if it does; otherwise a note says so.
    """

    path: str | os.PathLike[str]
    verify: bool = True

    def load(self, model: Pi0Spec, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """Return the checkpoint's parameters, and fresh adapters where it has none. Arguments: ``WeightLoader.load``.

        Raises:
          CheckpointError: there is no readable checkpoint at the path.
          LoadError: a base parameter is missing, an adapter is incomplete or not the model's, a shape, rank or alpha
            differs, an array does not hold floats, or a finite value overflows in the model's dtype. All paths are
            listed.
        """
        stored = read_metadata(find_params(self.path))
        expected = expected_leaves(model, frozen_dtype)
        loaded, report = _read(stored, model, expected, is_adapter, verify=self.verify)
        return complete(loaded, model, seed, expected), report

    def load_for_inference(self, model: Pi0Spec) -> tuple[Params, LoadReport]:
        """Return the checkpoint's parameters in their stored dtypes; nothing is fresh, not even adapters.

        The same checkpoints fit as for training: with other rules, serving loses adapters (docs/bugs.md#c2, #c9). A
        parameter that is stored wider than the model's dtype is cast to that.

        Args:
          model: the model to load into.

        Returns:
          path -> host array, and the report.

        Raises:
          CheckpointError, LoadError: as ``load`` does, and where an adapter is missing.
        """
        stored = read_metadata(find_params(self.path))
        expected = {path: _not_wider(leaf, stored.leaves.get(path)) for path, leaf in expected_leaves(model).items()}
        return _read(stored, model, expected, lambda path: False, verify=self.verify)


@dataclasses.dataclass(frozen=True)
class PaliGemmaWeightLoader:
    """Load Google's official PaliGemma; action expert, projections and adapters are initialized.

    Attributes:
      path: the npz, local or a URL; by default the public ``pt_224.npz``.
      resample_positions: resample position embeddings for another image size, instead of rejecting them.
    """

    path: str | os.PathLike[str] = PALIGEMMA_URL
    resample_positions: bool = False

    def load(self, model: Pi0Spec, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """Return PaliGemma's parameters, everything else fresh. Arguments: ``WeightLoader.load``.

        Raises:
          CheckpointError: the npz is missing, truncated, pickled or damaged.
          LoadError: the npz lacks a parameter that PaliGemma has, or has one of another shape, without floats, or with
            a finite value that overflows in the model's dtype.
        """
        with open_npz(fetch(self.path)) as npz:
            source = Resampled(npz, model) if self.resample_positions else npz
            return _load_paligemma(source, model, seed, frozen_dtype)


@dataclasses.dataclass(frozen=True)
class HuggingFaceWeightLoader:
    """Load Hugging Face's PaliGemma; everything else is initialized, as for Google's.

    Attributes:
      path: the folder, or in it the safetensors file or the index of the shards, local or a URL.
      resample_positions: resample position embeddings for another image size, instead of rejecting them.
    """

    path: str | os.PathLike[str]
    resample_positions: bool = False

    def load(self, model: Pi0Spec, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """Return PaliGemma's parameters, everything else fresh. Arguments: ``WeightLoader.load``.

        Raises:
          CheckpointError: there is no safetensors file, or a damaged one, or index and shards do not agree.
          LoadError: the tensors are not those of PaliGemma 1, of another size, or adapters; the token table and its
            tied copy differ; or as for Google's.
        """
        with open_hugging_face(fetch(self.path), model) as opened:
            source = Resampled(opened, model) if self.resample_positions else opened
            return _load_paligemma(source, model, seed, frozen_dtype)


def _load_paligemma(source: Source, model: Pi0Spec, seed: int, frozen_dtype: Any) -> tuple[Params, LoadReport]:
    params, report = load_from(source, model, lambda path: not in_paligemma(path), seed=seed, frozen_dtype=frozen_dtype)
    return params, source.account(report) if isinstance(source, Resampled) else report


@dataclasses.dataclass(frozen=True)
class GemmaWeightLoader:
    """Load Google's official Gemma for flax as PaliGemma's language model; everything else is initialized.

    Attributes:
      path: the folder of the orbax checkpoint, local or a URL; both of Gemma's forms are read.
      extend_vocabulary: initialize the rows of tokens that Gemma's table lacks, instead of rejecting it; see
        ``Extended``.
    """

    path: str | os.PathLike[str]
    extend_vocabulary: bool = False

    def load(self, model: Pi0Spec, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """Return Gemma's parameters; vision encoder, action expert, projections and adapters are fresh.

        Arguments: ``WeightLoader.load``.

        Raises:
          CheckpointError: there is no readable checkpoint at the path.
          LoadError: the checkpoint is a later Gemma or one of other sizes, lacks a layer or an array, has adapters,
            holds no floats, or has a finite value that overflows in the model's dtype.
        """
        gemma = open_gemma(find_params(self.path))
        source = Extended(gemma, model, seed) if self.extend_vocabulary else gemma
        require_sizes(source, model)
        params, report = load_from(source, model, lambda path: not in_gemma(path), seed=seed, frozen_dtype=frozen_dtype)
        return params, source.account(report) if isinstance(source, Extended) else report


@dataclasses.dataclass(frozen=True)
class OpenpiPyTorchWeightLoader:
    """Load a pi0 checkpoint in openpi's PyTorch layout; only adapters may be missing.

    Attributes:
      path: the folder with ``model.safetensors``, or that file, or the folder of a policy of lerobot's, local or a URL.
      merge: the folder of a PEFT adapter for it, on whichever modules, that is merged into the weights; local or a URL.
    """

    path: str | os.PathLike[str]
    merge: str | os.PathLike[str] | None = None

    def load(self, model: Pi0Spec, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """Return the checkpoint's parameters, and fresh adapters. Arguments: ``WeightLoader.load``.

        Raises:
          CheckpointError: there is no readable file at the path.
          LoadError: the checkpoint is of another family, size or layout, lacks a tensor, has adapters or two different
            token tables, holds no floats, or has a finite value that overflows in the model's dtype.
        """
        within = None if self.merge is None else partial(MergedTensors, folder=fetch(self.merge))
        source = open_pytorch(fetch(self.path), model, within)
        return load_from(source, model, is_adapter, seed=seed, frozen_dtype=frozen_dtype)


@dataclasses.dataclass(frozen=True)
class PeftWeightLoader:
    """Load a PEFT adapter of transformers' pi0, and its base in openpi's PyTorch layout; nothing may be missing.

    Attributes:
      path: the base: the folder with ``model.safetensors``, or that file, local or a URL.
      adapter: the folder with ``adapter_model.safetensors``, local or a URL.
    """

    path: str | os.PathLike[str]
    adapter: str | os.PathLike[str]

    def load(self, model: Pi0Spec, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """Return the base's parameters and the adapter's. Arguments: ``WeightLoader.load``.

        Raises:
          CheckpointError, LoadError: as ``OpenpiPyTorchWeightLoader``, or the adapter is not one of the model's.
        """
        adapters, stored = read_peft(fetch(self.adapter), model)
        params, report = OpenpiPyTorchWeightLoader(self.path).load(model, seed=seed, frozen_dtype=frozen_dtype)
        entries = [
            _of_an_adapter(entry, stored[entry.path], adapters[entry.path]) if entry.path in stored else entry
            for entry in report.entries
        ]
        return params | adapters, dataclasses.replace(report, entries=tuple(entries))


def _of_an_adapter(entry: Entry, stored: Leaf, loaded: np.ndarray) -> Entry:
    """Return the entry of an adapter's matrix, read from its own file."""
    status = Status.LOADED if stored.dtype == loaded.dtype else Status.CAST
    return dataclasses.replace(entry, status=status, found=stored, nonfinite=count_nonfinite(loaded))


def _read(
    stored: Metadata,
    model: Pi0Spec,
    expected: dict[str, Leaf],
    may_be_fresh: Callable[[str], bool],
    *,
    verify: bool,
) -> tuple[Params, LoadReport]:
    """Return what the model takes from a checkpoint, and the report of every leaf; reject what does not fit."""
    source = str(stored.path)
    entries = settle(expected, stored.leaves, may_be_fresh)
    refuse_half_adapters(source, stored.leaves)
    refuse(source, entries, model, stored.leaves)
    require_same_lora(source, stored, model)
    loaded = restore_leaves(stored, {path: expected[path].dtype for path in to_read(entries)}, verify=verify)
    _warn_of_a_zero_table(source, loaded)
    report = inspect(source, entries, loaded, lambda path: restore_leaves(stored, {path: None}, verify=False)[path])
    return loaded, dataclasses.replace(
        report, notes=_assumptions(stored) + notes(stored.digests, list(loaded), verified=verify)
    )


def _warn_of_a_zero_table(source: str, loaded: Params) -> None:
    """Warn of a token table of zeros, with which openpi initializes a pi0-FAST: all logits are zero."""
    table = loaded.get(TOKEN_TABLE)
    # The first row decides for all tables but such a one.
    if table is not None and not table[0].any() and not table.any():
        warnings.warn(
            f"{source}: {TOKEN_TABLE} is zero throughout, as in a pi0-FAST of openpi into which nothing was loaded; "
            "take the checkpoint that the training was to start from",
            stacklevel=4,
        )


def _not_wider(expected: Leaf, found: Leaf | None) -> Leaf:
    """Return the expected leaf, in the stored dtype unless that is wider."""
    narrower = found and found.dtype.itemsize < expected.dtype.itemsize
    return Leaf(expected.shape, found.dtype) if found and narrower else expected


def _assumptions(stored: Metadata) -> tuple[str, ...]:
    """Return a note on what the checkpoint does not record: openpi's has no alpha (docs/bugs.md#e9)."""
    if stored.lora is None and any(is_adapter(path) for path in stored.leaves):
        return ("the checkpoint does not record the alpha of its adapters; the config's is taken for it",)
    return ()
