"""Check from metadata alone whether a checkpoint loads into a model, as the loaders decide it, and suggest fixes.

There are two verdicts: for training, a loader may initialize what it allows to be missing; for inference, nothing.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple, TypeAlias

from pi0_compat.checkpoints.values import Finding, examine
from pi0_compat.diagnosis import other_sizes
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.distance import parameters_apart
from pi0_compat.layouts.gemma_flax import require_sizes
from pi0_compat.layouts.judged import judge_checkpoint
from pi0_compat.layouts.layout import Detected, Layout
from pi0_compat.layouts.locate import located, located_metadata
from pi0_compat.layouts.open import open_parameters
from pi0_compat.layouts.orbax.completeness import what_is_missing
from pi0_compat.layouts.orbax.lora_record import require_same_lora
from pi0_compat.layouts.orbax.metadata import Metadata, read_metadata
from pi0_compat.layouts.orbax.read_stream import StoredParameters
from pi0_compat.layouts.sizes import PARTS, ranks_of, sizes_apart, sizes_of
from pi0_compat.layouts.torch.safetensors_folder import recorded_beside, tensors_of
from pi0_compat.layouts.torch.sizes import torch_sizes
from pi0_compat.layouts.verdict import Verdict as WholeVerdict
from pi0_compat.loading.match import expected_leaves, refuse, refuse_half_adapters, settle, to_read
from pi0_compat.loading.report import Entry, Status
from pi0_compat.model.named import named_models, spec_of
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import EXPERTS
from pi0_compat.norm_stats.fit import StatsFits, fit_norm_stats
from pi0_compat.params import Differences, Leaf, differences, num_bytes
from pi0_compat.paths import expert_of, in_gemma, in_paligemma, is_adapter, looks_like_an_adapter, unused_in
from pi0_compat.progress import Progress, no_progress
from pi0_compat.storage.stream import Source

_RELEASES = (Layout.PALIGEMMA_NPZ, Layout.HUGGING_FACE, Layout.GEMMA_FLAX)
_ORBAX = (Layout.OPENPI, Layout.GEMMA_FLAX)
LOADERS = {
    Layout.OPENPI: "CheckpointWeightLoader",
    Layout.OPENPI_PYTORCH: "OpenpiPyTorchWeightLoader",
    Layout.LEROBOT: "OpenpiPyTorchWeightLoader",
    Layout.PALIGEMMA_NPZ: "PaliGemmaWeightLoader",
    Layout.HUGGING_FACE: "HuggingFaceWeightLoader",
    Layout.GEMMA_FLAX: "GemmaWeightLoader",
}
_PROJECTIONS = {
    *("action_in_proj", "action_out_proj", "state_proj"),
    *("action_time_mlp_in", "action_time_mlp_out", "time_mlp_in", "time_mlp_out"),
}


Purpose: TypeAlias = Literal["training", "inference"]
PURPOSES: tuple[Purpose, ...] = ("training", "inference")
# The number of fitting configs that a fix names.
_NAMED = 3
# The name in ``Check.fits`` of a config without a name.
CONFIG = "config"


class Verdict(NamedTuple):
    """Whether a checkpoint loads for one purpose.

    Attributes:
      reason: why it does not load, in the loader's words; empty if it loads.
      loaded: how many parameters are loaded.
      fresh: how many are initialized.
      dropped: how many parameters of the checkpoint are not used.
    """

    reason: str
    loaded: int = 0
    fresh: int = 0
    dropped: int = 0

    @property
    def loads(self) -> bool:
        return not self.reason


class Group(NamedTuple):
    """Differences of one kind in one part of the model.

    Attributes:
      kind: missing, unexpected or mismatched.
      part: in words, for example "adapters of the action expert".
      paths: of the parameters, sorted.
      example: the first path, with what was expected and found.
    """

    kind: str
    part: str
    paths: tuple[str, ...]
    example: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """How a checkpoint fits a model.

    Attributes:
      groups: every difference in paths and shapes, in groups.
      sizes: the sizes that differ, in words.
      details: the lines of the loader's error if a file could not even be opened as the model's.
      apart: how many parameters are missing, of another shape, or not the model's.
    """

    training: Verdict
    inference: Verdict
    groups: tuple[Group, ...] = ()
    sizes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    apart: int = 0

    def verdict(self, purpose: Purpose) -> Verdict:
        """Return the verdict for "training" or "inference"."""
        return self.training if purpose == "training" else self.inference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """Whether a checkpoint loads, and what to do where it does not.

    Attributes:
      name: what to call the checkpoint: its URL, or its path, relative to the working folder if it is below.
      layout: how it is stored.
      fits: config -> how it goes together with the checkpoint: the config that was named, else all named configs.
      why_not: why no part of a pi0 can be read from it, with what it is nearest to; empty if one can.
      problems: what is missing of it, or is not of one model, whatever the config; a line for each.
      fixes: what to do where the named config does not fit, the likeliest first.
      findings: what is unusual in the values; None if they were not read.
      norm_stats: the norm stats beside it, and what is wrong with them.
    """

    name: str
    layout: Layout
    fits: dict[str, Fit]
    why_not: str = ""
    problems: tuple[str, ...] = ()
    fixes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] | None = None
    norm_stats: StatsFits = StatsFits()

    def loads(self, *purposes: Purpose) -> bool:
        """Return whether it loads into one of the configs for these purposes, and no value and no norm stats are wrong.

        Args:
          purposes: "training", "inference"; both if none is given.
        """
        asked = purposes or PURPOSES
        fitting = any(all(fit.verdict(purpose).loads for purpose in asked) for fit in self.fits.values())
        values = all(finding.expected for finding in self.findings or ())
        return fitting and values and not self.norm_stats.are_wrong


def check_checkpoint(
    path: str | os.PathLike[str],
    config: Pi0Spec | str | None = None,
    *,
    values: bool = False,
    progress: Progress = no_progress,
) -> Check:
    """Return whether a checkpoint loads into a model, for training and for inference, as the loaders decide it.

    Only metadata and norm stats are read, of a remote checkpoint a few kilobytes of each file; with ``values`` all
    arrays, a slab at a time. Not in any shape, and so not checked: action horizon, prompt length, and alpha where it is
    not recorded.

    Args:
      path: a checkpoint in any layout, local or a URL: its file or folder, or the folder of a step or run.
      config: the model it should load into, or the name of a config; without it all named configs are tried.
      values: read the arrays too, and report NaN, infinities, constants, and arrays that are as they were initialized.
      progress: shows how far reading the values is.

    Raises:
      CheckpointError: ``path`` does not lead to a checkpoint, or it is damaged.
      ValueError: no config has the name ``config``.
    """
    model = spec_of(config)
    asked = {} if model is None else {config if isinstance(config, str) else CONFIG: model}
    # Values have to be downloaded; for the rest, the metadata of a remote checkpoint are enough.
    place = nullcontext(located(path)) if values else located_metadata(path)
    with place as (checkpoint, name):
        # What inspect and convert decide by: no model fits what is no part of a pi0.
        leaves, verdict = judge_checkpoint(checkpoint)
        known = fits(checkpoint, leaves, asked or named_models(), verdict.reason)
        ways = [] if model is None else _ways_out(checkpoint, leaves, model, known[next(iter(asked))], verdict)
        return Check(
            name=name,
            layout=checkpoint.layout,
            fits=known,
            why_not=verdict.reason,
            problems=verdict.problems,
            fixes=tuple(ways),
            findings=tuple(_examined(checkpoint, model, progress)) if values and not verdict.reason else None,
            norm_stats=fit_norm_stats(checkpoint, verdict.family, model, config if isinstance(config, str) else None),
        )


def _ways_out(
    checkpoint: Detected, leaves: Mapping[str, Leaf], model: Pi0Spec, fit: Fit, verdict: WholeVerdict
) -> list[str]:
    """Return what to do if a model does not fit; other models are tried only then."""
    if verdict.reason:
        return []
    others = not verdict.problems and not all(fit.verdict(purpose).loads for purpose in PURPOSES)
    return fixes_of(checkpoint, model, fit, fits(checkpoint, leaves, named_models()) if others else {}, verdict)


def _examined(checkpoint: Detected, model: Pi0Spec | None, progress: Progress) -> list[Finding]:
    with open_parameters(checkpoint, model) as source, progress("reading", num_bytes(source.leaves)) as advance:
        return examine(source, advance)


def fits(
    checkpoint: Detected, leaves: Mapping[str, Leaf], models: Mapping[str, Pi0Spec], why_not: str = ""
) -> dict[str, Fit]:
    """Return how a checkpoint fits each model; no array is read but a PyTorch checkpoint's tied table.

    Args:
      checkpoint: what ``detect`` returned.
      leaves: shape and dtype of every array, by the names of its layout.
      models: the models, by name.
      why_not: why it fits none, whatever their sizes; empty if nothing speaks against it.

    Raises:
      CheckpointError: the checkpoint's metadata cannot be read.
    """
    if why_not:
        return dict.fromkeys(models, Fit(training=Verdict(why_not), inference=Verdict(why_not)))
    missing = tuple(what_is_missing(checkpoint.path)) if checkpoint.layout in _ORBAX else ()
    stored = read_metadata(checkpoint.path) if checkpoint.layout is Layout.OPENPI else None
    seen = _Seen(checkpoint, missing, stored)
    # Several configs share a model.
    fit_of = {
        model: dataclasses.replace(_fit(seen, model), apart=parameters_apart(checkpoint.layout, leaves, model))
        for model in models.values()
    }
    return {name: fit_of[model] for name, model in models.items()}


class _Seen(NamedTuple):
    """What is read once of a checkpoint: its layout, what is incomplete, and the metadata of openpi's own layout."""

    checkpoint: Detected
    missing: tuple[str, ...]
    stored: Metadata | None

    def open(self, model: Pi0Spec) -> AbstractContextManager[Source]:
        """Open the checkpoint under openpi's names."""
        return nullcontext(StoredParameters(self.stored)) if self.stored else open_parameters(self.checkpoint, model)


def fixes_of(
    checkpoint: Detected, model: Pi0Spec, fit: Fit, known: Mapping[str, Fit], verdict: WholeVerdict
) -> list[str]:
    """Return what to do about a verdict of no, the likeliest fix first."""
    if verdict.lacks:
        return [f"the checkpoint is not whole ({verdict.family}), so no config fits: get all of its files again"]
    if verdict.problems:
        return []  # the reason has the way out
    ways = []
    if fit.training.loads and fit.training.fresh and not fit.inference.loads:
        what = "adapters" if checkpoint.layout is Layout.OPENPI else "parameters"
        ways.append(f"for training, load it with {LOADERS[checkpoint.layout]}: fresh {what} are added, and reported")
    lost = [group for group in fit.groups if group.kind == "unexpected" and "adapters" in group.part]
    if lost and not model.has_lora:
        ways.append("keep its fine-tuning: use the LoRA config it was trained with, or fold it: pi0-compat fold")
    for purpose in PURPOSES:
        if fit.verdict(purpose).loads:
            continue
        names = [name for name, other in known.items() if other.verdict(purpose).loads]
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            ways.append(f"for {purpose}, these configs fit: {', '.join(base_first(names)[:_NAMED])}{more}")
    if checkpoint.layout in _RELEASES and not fit.inference.loads:
        ways.append("for inference, fine-tune first: a release has no action expert")
    elif not ways and not fit.training.loads and fit.sizes:
        ways.append(
            "no named config has its sizes; write them to a file for --config-file: inspect --write-config FILE"
        )
    return ways


def base_first(names: Iterable[str]) -> list[str]:
    """Return names of configs sorted, those of base models and of LIBERO first: many configs share a model."""
    return sorted(names, key=lambda name: ("_base" not in name, "_libero" not in name, name))


def _fit(seen: _Seen, model: Pi0Spec) -> Fit:
    try:
        with seen.open(model) as source:
            return _compare(seen, source, model)
    except LoadError as error:
        no = Verdict(_without_path(str(error), seen.checkpoint))
        details = tuple(line.strip() for line in str(error).splitlines()[1:])
        return Fit(training=no, inference=no, sizes=_torch_sizes_apart(seen.checkpoint, model), details=details)


def _compare(seen: _Seen, source: Source, model: Pi0Spec) -> Fit:
    expected, in_source = expected_leaves(model), _in_source(seen.checkpoint.layout)
    # What the layout stores and no model uses is no difference.
    idle = unused_in(source.leaves)
    found = {path: leaf for path, leaf in source.leaves.items() if path not in idle}
    trained = settle(expected, found, lambda path: not in_source(path))
    served = settle(expected, found, lambda path: False)
    return Fit(
        training=_verdict(seen, source, model, trained),
        inference=_verdict(seen, source, model, served),
        groups=tuple(_groups(differences(expected, found, dtypes=False), in_source)),
        sizes=tuple(sizes_apart(sizes_of(source.leaves), ranks_of(source.leaves), model)),
    )


def _torch_sizes_apart(checkpoint: Detected, model: Pi0Spec) -> tuple[str, ...]:
    """Return the sizes in which PyTorch's tensors differ from the model that they could not be opened as."""
    if checkpoint.layout not in (Layout.OPENPI_PYTORCH, Layout.LEROBOT, Layout.HUGGING_FACE):
        return ()
    sizes = torch_sizes(tensors_of(checkpoint.path), recorded_beside(checkpoint.path))
    if checkpoint.layout is Layout.HUGGING_FACE:
        sizes.pop("vocab_size", None)  # transformers adds rows
    return tuple(sizes_apart(sizes, {}, model))


def _in_source(layout: Layout) -> Callable[[str], bool]:
    """Return which parameters of a model a checkpoint of the layout must have."""
    if layout is Layout.GEMMA_FLAX:
        return in_gemma
    if layout in _RELEASES:
        return in_paligemma
    return lambda path: not is_adapter(path)


def _verdict(seen: _Seen, source: Source, model: Pi0Spec, entries: list[Entry]) -> Verdict:
    """Return what a loader would say, without reading arrays."""
    try:
        _refuse(seen, source, model, entries)
    except (CheckpointError, LoadError) as error:
        return Verdict(_without_sizes(_without_path(str(error), seen.checkpoint), entries, source))
    count = {status: sum(entry.status is status for entry in entries) for status in Status}
    return Verdict("", len(to_read(entries)), count[Status.INITIALIZED], count[Status.DROPPED])


def _refuse(seen: _Seen, source: Source, model: Pi0Spec, entries: list[Entry]) -> None:
    name = str(source.path)
    if seen.missing:
        raise CheckpointError(f"{name}: the checkpoint is not whole: {seen.missing[0]}")
    if seen.checkpoint.layout is Layout.GEMMA_FLAX:
        require_sizes(source, model)
    refuse_half_adapters(name, source.leaves)
    refuse(name, entries, model, source.leaves)
    if seen.stored:
        require_same_lora(name, seen.stored, model)


def _without_sizes(reason: str, entries: list[Entry], source: Source) -> str:
    """Drop the sizes that ``Fit.sizes`` has too from a reason; keep what can be done about a size."""
    for words in other_sizes({entry.path: entry.expected for entry in entries if entry.expected}, source.leaves):
        reason = reason if "=" in words else reason.replace(f"; {words}", "")
    return reason


def _without_path(message: str, checkpoint: Detected) -> str:
    """Return the first line of a loader's message without the file's path; ``groups`` have the differences."""
    line = message.partition("\n")[0]
    place, colon, words = line.partition(": ")
    return words if colon and place.startswith(str(checkpoint.path)) else line


def _groups(wrong: Differences, in_source: Callable[[str], bool]) -> list[Group]:
    """Group differences by kind and part; a parameter that a release cannot have is not one."""
    lines = {("missing", path): f"expected {leaf}" for path, leaf in wrong.missing.items()}
    lines |= {("unexpected", path): f"found {leaf}" for path, leaf in wrong.unexpected.items()}
    lines |= {("mismatched", path): f"expected {want}, found {got}" for path, (want, got) in wrong.mismatched.items()}
    parted: dict[tuple[str, str], list[str]] = {}
    for kind, path in sorted(lines):
        if kind == "missing" and not in_source(path) and not is_adapter(path):
            continue
        parted.setdefault((kind, part_of(path)), []).append(path)
    return [
        Group(kind, part, tuple(paths), f"{paths[0]}: {lines[kind, paths[0]]}")
        for (kind, part), paths in parted.items()
    ]


def part_of(path: str) -> str:
    """Return the part of a model that a parameter belongs to, in words."""
    number = expert_of(path)
    expert = "" if number is None else PARTS[EXPERTS[number]]
    if looks_like_an_adapter(path):
        return f"adapters of the {expert}" if expert else "adapters"
    if path.startswith("PaliGemma/img/"):
        return PARTS["siglip"]
    return expert or ("projections" if path.partition("/")[0] in _PROJECTIONS else "others")
