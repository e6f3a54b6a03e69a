"""Where the parameters of a new model come from: nowhere, a checkpoint, or Google's PaliGemma.

Each loader returns every parameter of the model and a ``LoadReport`` that accounts for each leaf of model and
checkpoint. Paths, shapes and dtypes are settled from the metadata before an array is read; arrays are then read one
by one, already cast.
"""

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from suite.reference.adapters import adapter_of
from suite.reference.checkpoints import Stored, read_metadata, restore_leaves
from suite.reference.download import fetch
from suite.reference.errors import LoadError
from suite.reference.layouts.paligemma_npz import open_npz
from suite.reference.load_report import Entry, LoadReport, Status
from suite.reference.params import Leaf, Params, differences, is_adapter
from suite.reference.pi0_config import Pi0Config, detect_family, expert_of

PALIGEMMA_URL = "gs://vertex-model-garden-paligemma-us/paligemma/pt_224.npz"

_BLOCK = 1 << 20


class WeightLoader(Protocol):
    """Gives a model its parameters."""

    def load(self, model: Pi0Config, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """All parameters of the model, and what was done to each.

        Args:
          model: what to load into.
          seed: for parameters that the source may lack.
          frozen_dtype: the dtype of parameters that LoRA freezes; the others, and by default all, are float32.
        """


@dataclasses.dataclass(frozen=True)
class NoOpWeightLoader:
    """Every parameter freshly initialised: training from scratch, which is hardly ever meant (openpi PR #815)."""

    def load(self, model: Pi0Config, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """Fresh parameters, with a warning."""
        warnings.warn("no weight loader: every parameter is freshly initialised", stacklevel=2)
        expected = expected_leaves(model, frozen_dtype)
        report = LoadReport("no source", tuple(_settle(expected, {}, lambda path: True)))
        return _complete({}, model, seed, expected), report


@dataclasses.dataclass(frozen=True)
class CheckpointWeightLoader:
    """A pi0 checkpoint, released or trained; only adapters may be missing, and no adapter may be left over.

    Attributes:
      path: the checkpoint's ``params`` folder, local or a URL.
    """

    path: str | os.PathLike[str]

    def load(self, model: Pi0Config, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """The checkpoint's parameters, and fresh adapters where it has none.

        Raises:
          CheckpointError: there is no readable checkpoint at the path.
          LoadError: a base parameter is missing, an adapter is half there or not the model's, a shape, rank or alpha
            differs, an array holds no floats, or a finite value overflows in the model's dtype. All paths are listed.
        """
        stored = read_metadata(self.path)
        expected = expected_leaves(model, frozen_dtype)
        source = str(stored.path)
        entries = _settle(expected, stored.leaves, is_adapter)
        _refuse_half_adapters(source, stored.leaves)
        _refuse(source, entries, model, stored.leaves)
        _require_same_lora(source, stored, model)
        loaded = restore_leaves(stored, {path: expected[path].dtype for path in _to_read(entries)})
        report = _inspect(source, entries, loaded, lambda path: restore_leaves(stored, {path: None})[path])
        report = dataclasses.replace(report, notes=_assumptions(stored))
        return _complete(loaded, model, seed, expected), report


@dataclasses.dataclass(frozen=True)
class PaliGemmaWeightLoader:
    """Google's official PaliGemma; what it does not have (action expert, projections, adapters) is freshly initialised.

    Attributes:
      path: the npz, local or a URL; by default the public ``pt_224.npz``.
    """

    path: str | os.PathLike[str] = PALIGEMMA_URL

    def load(self, model: Pi0Config, *, seed: int = 0, frozen_dtype: Any = None) -> tuple[Params, LoadReport]:
        """PaliGemma's parameters in place, everything else fresh.

        Raises:
          CheckpointError: the npz is missing, truncated, pickled or damaged.
          LoadError: it lacks a parameter that PaliGemma has, or has one of another shape, without floats, or with a
            finite value that overflows in the model's dtype.
        """
        expected = expected_leaves(model, frozen_dtype)
        with open_npz(fetch(self.path)) as npz:
            source = str(npz.path)
            entries = _settle(expected, npz.leaves, lambda path: not in_paligemma(path))
            _refuse(source, entries, model, npz.leaves)
            with np.errstate(over="ignore"):  # what overflows is refused by name, below
                loaded = {path: npz.read(path).astype(expected[path].dtype, copy=False) for path in _to_read(entries)}
            report = _inspect(source, entries, loaded, npz.read)
        return _complete(loaded, model, seed, expected), report


def expected_leaves(model: Pi0Config, frozen_dtype: Any = None) -> dict[str, Leaf]:
    """Path -> shape and dtype that a train state of the model holds."""
    frozen = np.dtype(frozen_dtype or jnp.float32)
    spec = model.param_spec()
    return {path: Leaf(x.shape, frozen if model.is_frozen(path) else np.dtype(x.dtype)) for path, x in spec.items()}


def in_paligemma(path: str) -> bool:
    """Whether official PaliGemma has the parameter: of its vision encoder or language model, no adapter."""
    return path.startswith("PaliGemma/") and expert_of(path) != 1 and not is_adapter(path)


def _settle(
    expected: Mapping[str, Leaf], found: Mapping[str, Leaf], may_be_fresh: Callable[[str], bool]
) -> list[Entry]:
    """An entry for every path of model and checkpoint."""

    def entry(path: str) -> Entry:
        want, got = expected.get(path), found.get(path)
        if want is None:
            status = Status.DROPPED
        elif got is None:
            status = Status.INITIALISED if may_be_fresh(path) else Status.MISSING
        else:
            status = Status.LOADED if want.dtype == got.dtype else Status.CAST
        return Entry(path=path, status=status, expected=want, found=got)

    return [entry(path) for path in sorted(expected.keys() | found.keys())]


def _to_read(entries: list[Entry]) -> list[str]:
    return [entry.path for entry in entries if entry.status in (Status.LOADED, Status.CAST)]


def _refuse(source: str, entries: list[Entry], model: Pi0Config, found: Mapping[str, Leaf]) -> None:
    """Raise one error that lists everything that keeps the checkpoint from being loaded.

    An unused parameter is dropped and reported, unless it is an adapter: with it, fine-tuning would be lost (bugs C1).
    """
    wrong = differences(
        {e.path: e.expected for e in entries if e.expected and e.status is not Status.INITIALISED},
        {e.path: e.found for e in entries if e.found and (e.status is not Status.DROPPED or is_adapter(e.path))},
        dtypes=False,
    )
    if not _to_read(entries):
        raise LoadError(f"{source}: not one parameter matches the model; found {_examples(found)}")
    if wrong:
        raise LoadError(f"{source}: {_cause(model, found, entries)}\n{wrong}")
    kept = [entry for entry in entries if entry.status in (Status.LOADED, Status.CAST)]
    if codes := [
        f"  ~ {e.path}: expected floats, found {e.found}" for e in kept if e.found and not _is_float(e.found.dtype)
    ]:
        raise LoadError(
            f"{source}: quantised or integer weights need their own loader; a cast would be garbage\n"
            + "\n".join(codes)
        )


def _cause(model: Pi0Config, found: Mapping[str, Leaf], entries: list[Entry]) -> str:
    """The likely reason, in words, for a checkpoint that does not fit."""
    family = detect_family(found)
    unused = [e for e in entries if e.status is Status.DROPPED and is_adapter(e.path)]
    if family != model.family and "action_in_proj/kernel" in found:
        return f"this is a checkpoint of {family}, the config is {model.family}; choose the config of that family"
    if unused and not any(e.status is Status.MISSING for e in entries):
        return (
            f"{len(unused)} adapter matrices have no place in the model, their fine-tuning would be lost; "
            "use the LoRA config they were trained with, or fold them first"
        )
    return f"the checkpoint (of {family}) does not fit the model"


def _refuse_half_adapters(source: str, found: Mapping[str, Leaf]) -> None:
    halves = []
    for path in filter(is_adapter, found):
        adapter = adapter_of(path)
        halves += [p for p in (adapter.a, adapter.b) if p not in found] if adapter else []
    if halves:
        lines = "\n".join(f"  - {path}" for path in sorted(halves))
        raise LoadError(
            f"{source}: half an adapter is missing; the other half alone means nothing. Expected also\n{lines}"
        )


def _require_same_lora(source: str, stored: Stored, model: Pi0Config) -> None:
    """Rank and alpha recorded in the checkpoint are the config's: another alpha silently scales every adapter."""
    for expert, recorded in (stored.lora or {}).items():
        if recorded != model.lora.get(expert):
            raise LoadError(
                f"{source}: LoRA on {expert} was trained with {recorded}, the config has {model.lora.get(expert)}; "
                "use the recorded one"
            )


def _assumptions(stored: Stored) -> tuple[str, ...]:
    """What the checkpoint does not say about itself: openpi's has no alpha (bugs E9)."""
    if stored.lora is None and any(is_adapter(path) for path in stored.leaves):
        return ("the checkpoint does not record the alpha of its adapters; the config's is taken for it",)
    return ()


def _inspect(
    source: str,
    entries: list[Entry],
    loaded: Mapping[str, np.ndarray],
    reread: Callable[[str], np.ndarray],
) -> LoadReport:
    """The report, once the values are known: what is not finite is counted, what overflowed in a cast is refused."""
    seen = []
    overflown = []
    for entry in entries:
        nonfinite = count_nonfinite(loaded[entry.path]) if entry.path in loaded else 0
        # Only a cast can turn finite values infinite, and only then is the array read again, as it was stored.
        if nonfinite and entry.status is Status.CAST and count_nonfinite(reread(entry.path)) != nonfinite:
            overflown.append(f"  ~ {entry.path}: finite {entry.found} overflows in {entry.expected}")
        seen.append(dataclasses.replace(entry, nonfinite=nonfinite))
    if overflown:
        raise LoadError(
            f"{source}: values too large for the model's dtype; load without a cast\n" + "\n".join(overflown)
        )
    return LoadReport(source, tuple(seen))


def count_nonfinite(array: np.ndarray) -> int:
    """How many values are NaN or infinite; in blocks, so that no mask of the whole array is made."""
    flat = array.reshape(-1)
    blocks = (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
    return sum(int(block.size - np.count_nonzero(np.isfinite(block))) for block in blocks)


def _complete(loaded: Params, model: Pi0Config, seed: int, expected: Mapping[str, Leaf]) -> Params:
    """Every parameter: the loaded ones, and fresh ones for the rest."""
    fresh = model.init_params(seed, only=sorted(expected.keys() - loaded.keys()))
    cast = {path: np.asarray(array.astype(expected[path].dtype)) for path, array in fresh.items()}
    return dict(sorted((loaded | cast).items()))


def _is_float(dtype: np.dtype) -> bool:
    return dtype in (
        np.dtype(ml_dtypes.bfloat16),
        np.dtype("float16"),
        np.dtype("float32"),
        np.dtype("float64"),
    )


def _examples(found: Mapping[str, Leaf]) -> str:
    names = sorted(found)[:3]
    return f"{len(found)} others, for example {', '.join(names)}" if names else "none at all"
