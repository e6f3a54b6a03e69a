"""Match the leaves of a checkpoint with a model's, reject what does not fit, and report on every leaf.

Loaders differ only in where arrays come from; what happens to the leaves is the same for all, and is here.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from pi0_compat.diagnosis import advice, later_version, other_sizes
from pi0_compat.errors import LoadError
from pi0_compat.floats import count_nonfinite, is_float
from pi0_compat.loading.report import Entry, LoadReport, Status
from pi0_compat.lora.sites import adapter_of
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.params import Leaf, Params, differences
from pi0_compat.paths import family_error, is_adapter, looks_like_an_adapter
from pi0_compat.storage.stream import Source


def expected_leaves(model: Pi0Spec, frozen_dtype: Any = None) -> dict[str, Leaf]:
    """Return the shape and dtype of every parameter in a train state of the model, by path."""
    frozen = np.dtype(frozen_dtype or np.float32)
    spec = model.param_spec()
    return {path: Leaf(x.shape, frozen if model.is_frozen(path) else np.dtype(x.dtype)) for path, x in spec.items()}


def load_from(
    source: Source,
    model: Pi0Spec,
    may_be_fresh: Callable[[str], bool],
    *,
    seed: int,
    frozen_dtype: Any,
) -> tuple[Params, LoadReport]:
    """Return all parameters of the model, read one at a time from an open source, and the report.

    Args:
      source: the checkpoint.
      model: the model to load into.
      may_be_fresh: whether a path that the source lacks may be initialized.
      seed: for those parameters.
      frozen_dtype: as in ``WeightLoader.load``.

    Raises:
      LoadError: the source does not fit; the message lists every path.
    """
    name, expected = str(source.path), expected_leaves(model, frozen_dtype)
    entries = settle(expected, source.leaves, may_be_fresh)
    refuse_half_adapters(name, source.leaves)
    refuse(name, entries, model, source.leaves)
    loaded = _read_all(source, {path: expected[path] for path in to_read(entries)})
    report = inspect(name, entries, loaded, source.read)
    return complete(loaded, model, seed, expected), report


def _read_all(source: Source, expected: Mapping[str, Leaf]) -> Params:
    """Read parameters as they are expected, on all cores: a source needs little memory beside its result."""

    def read(path: str) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow is rejected by name later
            return source.read(path, expected[path].dtype).astype(expected[path].dtype, copy=False)

    # Largest first, so that no large one is left when the other cores have nothing to do.
    largest = sorted(expected, key=lambda path: expected[path].num_bytes, reverse=True)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(largest, threads.map(read, largest), strict=True))


def settle(expected: Mapping[str, Leaf], found: Mapping[str, Leaf], may_be_fresh: Callable[[str], bool]) -> list[Entry]:
    """Return an entry for every path of model and checkpoint."""

    def entry(path: str) -> Entry:
        want, got = expected.get(path), found.get(path)
        if want is None:
            status = Status.DROPPED
        elif got is None:
            status = Status.INITIALIZED if may_be_fresh(path) else Status.MISSING
        else:
            status = Status.LOADED if want.dtype == got.dtype else Status.CAST
        return Entry(path=path, status=status, expected=want, found=got)

    return [entry(path) for path in sorted(expected.keys() | found.keys())]


def to_read(entries: list[Entry]) -> list[str]:
    return [entry.path for entry in entries if entry.status in (Status.LOADED, Status.CAST)]


def refuse(source: str, entries: list[Entry], model: Pi0Spec, found: Mapping[str, Leaf]) -> None:
    """Raise one error that lists everything that keeps the checkpoint from being loaded.

    An unused parameter is dropped and reported, unless it is an adapter: without it, fine-tuning would be lost
    (docs/bugs.md#c1).
    """
    wrong = differences(
        {e.path: e.expected for e in entries if e.expected and e.status is not Status.INITIALIZED},
        {
            e.path: e.found
            for e in entries
            if e.found and (e.status is not Status.DROPPED or looks_like_an_adapter(e.path))
        },
        dtypes=False,
    )
    if later := later_version(found):
        raise LoadError(f"{source}: {later}")
    # A pi0 has all that a pi0_fast needs, so no difference would show.
    if model.family == "pi0_fast" and (other := family_error(found, model.family)):
        raise LoadError(f"{source}: {other}")
    if not to_read(entries):
        raise LoadError(f"{source}: not one parameter matches the model; found {_examples(found)}")
    if wrong:
        sizes = other_sizes({e.path: e.expected for e in entries if e.expected}, found)
        raise LoadError(f"{source}: {'; '.join([advice(model.family, found, wrong), *sizes])}\n{wrong}")
    kept = [entry for entry in entries if entry.status in (Status.LOADED, Status.CAST)]
    if codes := [
        f"  ~ {e.path}: expected floats, found {e.found}" for e in kept if e.found and not is_float(e.found.dtype)
    ]:
        raise LoadError(
            f"{source}: quantized or integer weights need their own loader; a cast would be garbage\n"
            + "\n".join(codes)
        )


def refuse_half_adapters(source: str, found: Mapping[str, Leaf]) -> None:
    halves = []
    for path in filter(is_adapter, found):
        adapter = adapter_of(path)
        halves += [p for p in (adapter.a, adapter.b) if p not in found] if adapter else []
    if halves:
        lines = "\n".join(f"  - {path}" for path in sorted(halves))
        raise LoadError(
            f"{source}: half an adapter is missing; the other half alone means nothing. Expected also\n{lines}"
        )


def inspect(
    source: str,
    entries: list[Entry],
    loaded: Mapping[str, np.ndarray],
    reread: Callable[[str], np.ndarray],
) -> LoadReport:
    """Return the report, once the values are known: count what is not finite, reject what overflowed in a cast."""
    seen = []
    overflown = []
    for entry in entries:
        nonfinite = count_nonfinite(loaded[entry.path]) if entry.path in loaded else 0
        # Only a cast can turn finite values infinite; only then, read the array again as it is stored.
        if nonfinite and entry.status is Status.CAST and count_nonfinite(reread(entry.path)) != nonfinite:
            overflown.append(f"  ~ {entry.path}: finite {entry.found} overflows in {entry.expected}")
        seen.append(dataclasses.replace(entry, nonfinite=nonfinite))
    if overflown:
        raise LoadError(
            f"{source}: values too large for the model's dtype; load without a cast\n" + "\n".join(overflown)
        )
    return LoadReport(source, tuple(seen))


def complete(loaded: Params, model: Pi0Spec, seed: int, expected: Mapping[str, Leaf]) -> Params:
    """Return every parameter of the model: those loaded, and fresh ones for the rest."""
    fresh = model.init_params(seed, only=sorted(expected.keys() - loaded.keys()))
    cast = {path: array.astype(expected[path].dtype, copy=False) for path, array in fresh.items()}
    return dict(sorted((loaded | cast).items()))


def _examples(found: Mapping[str, Leaf]) -> str:
    names = sorted(found)[:3]
    return f"{len(found)} others, for example {', '.join(names)}" if names else "none at all"
