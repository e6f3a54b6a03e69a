"""Describe a checkpoint from names, shapes and small files; no array is read."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pi0_compat.errors import CheckpointError
from pi0_compat.layouts.gemma_flax import stacked
from pi0_compat.layouts.judged import Judged, judge_checkpoint
from pi0_compat.layouts.layout import ADAPTER_CONFIG, Detected, Layout
from pi0_compat.layouts.locate import located_metadata
from pi0_compat.layouts.orbax.completeness import leftovers, what_is_missing
from pi0_compat.layouts.orbax.folder import METADATA_FILE, holds_tree, steps_of
from pi0_compat.layouts.orbax.item import tree_entries
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.layouts.sizes import Sizes, ranks_of
from pi0_compat.layouts.torch.safetensors_folder import recorded_beside
from pi0_compat.layouts.verdict import sizes_in
from pi0_compat.layouts.wholes import ADAPTERS_ALONE, FAST_OR_PALIGEMMA
from pi0_compat.lora.sites import adapter_of
from pi0_compat.model.specs import EXPERTS
from pi0_compat.norm_stats.found import Found, norm_stats_of
from pi0_compat.params import Leaf, bytes_by_dtype
from pi0_compat.paths import expert_of

# Files that a generation of orbax was the first to write; the version itself is recorded nowhere.
_ORBAX_MARKS = (
    ("commit_success.txt", "as 0.12 does"),
    ("array_metadatas", "as 0.11 does"),
    ("_CHECKPOINT_METADATA", "as 0.5 does"),
    (METADATA_FILE, "as 0.4 does"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """A description of a checkpoint.

    Attributes:
      path: the file or folder that holds the arrays; for a URL, a local outline that is deleted by now.
      name: the name to print: its URL, or its path, relative to the working folder if it is below.
      layout: how the checkpoint is stored.
      family: pi0, pi05, PaliGemma, ...; or "pi0-FAST or PaliGemma", whose names and shapes are the same; or a later
        Gemma, such as "Gemma 2"; else "unknown".
      other: the model that an unknown one is by its names, for example SmolVLA; empty if they prove none.
      leaves: shape and dtype by name: openpi's names, except for PyTorch's tensors and arrays that no model has.
      sizes: what ``sizes_of`` returns.
      ranks: expert -> adapted weight -> rank; of PEFT what its config says.
      lora: the recorded rank, alpha and rslora; None if they were not recorded, or there are no adapters.
      written_by: the generation of orbax that wrote it, as its files suggest.
      training: step, whether there is a train state and a moving average, the run's steps; None outside of a run.
      digests: the number of parameters with a recorded digest.
      norm_stats: the norm stats beside it, openpi's by asset id and lerobot's; what cannot be read has its problem.
      missing: a line for each array that is missing, incomplete, or of a shape that the others do not allow, and for
        adapters that are not merged.
      strays: names of arrays that the model has no place for.
      why_not: why no part of a pi0 can be read from it, with what it is nearest to; empty if one can.
      leftovers: files of an interrupted save or copy, which do no harm.
    """

    path: Path
    name: str
    layout: Layout
    family: str
    leaves: dict[str, Leaf]
    sizes: Sizes
    ranks: dict[str, dict[str, int]]
    lora: dict[str, Any] | None = None
    written_by: str | None = None
    training: dict[str, Any] | None = None
    digests: int = 0
    norm_stats: tuple[Found, ...] = ()
    missing: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    other: str = ""
    why_not: str = ""
    leftovers: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it is a pi0, or a part of one that is read by itself, and nothing of it is missing."""
        return not self.missing and not self.why_not

    @property
    def bytes_by_dtype(self) -> dict[str, int]:
        """dtype -> bytes of the arrays that have it, most first."""
        return bytes_by_dtype(self.leaves)

    @property
    def num_values(self) -> int:
        """The number of values in all arrays."""
        return sum(leaf.num_bytes // leaf.dtype.itemsize for leaf in self.leaves.values())


def inspect_checkpoint(path: str | os.PathLike[str]) -> Description:
    """Return what a checkpoint is: layout, family, sizes, dtypes, adapters, training run, completeness.

    No array is read. Of a remote checkpoint, a few kilobytes of each file are downloaded.

    Args:
      path: a checkpoint in any layout, local or a URL: its file or folder, or the folder of a step or run, of which
        the latest step counts.

    Raises:
      CheckpointError: ``path`` does not lead to a checkpoint, or its metadata are damaged; the message says what is
        there and what to pass instead.
    """
    with located_metadata(path) as (checkpoint, name):
        return dataclasses.replace(_describe(checkpoint), name=name)


def _describe(checkpoint: Detected) -> Description:
    if checkpoint.layout is Layout.OPENPI:
        return _describe_openpi(checkpoint)
    judged = judge_checkpoint(checkpoint)
    described = _described(checkpoint, judged)
    if checkpoint.layout in (Layout.TRAIN_STATE, Layout.GEMMA_FLAX, Layout.UNKNOWN):
        return _with_orbax_facts(checkpoint, described)
    if checkpoint.layout is Layout.PEFT:
        return dataclasses.replace(described, lora=_peft_config(checkpoint.path))
    return described


def _describe_openpi(checkpoint: Detected) -> Description:
    missing = tuple(what_is_missing(checkpoint.path))
    stored = read_metadata(checkpoint.path)
    judged = judge_checkpoint(checkpoint, stored.leaves, missing)
    described = _with_orbax_facts(checkpoint, _described(checkpoint, judged))
    family = described.family
    if stored.family and family.startswith(ADAPTERS_ALONE):
        family = f"{ADAPTERS_ALONE}, of {stored.family}"
    if stored.family == "pi0_fast" and family == FAST_OR_PALIGEMMA:
        family = stored.family
    return dataclasses.replace(described, family=family, lora=stored.lora or None, digests=len(stored.digests))


def _with_orbax_facts(checkpoint: Detected, described: Description) -> Description:
    return dataclasses.replace(
        described,
        written_by=_written_by(checkpoint.path),
        training=_training(checkpoint),
        leftovers=tuple(leftovers(checkpoint.path)),
    )


def _described(checkpoint: Detected, judged: Judged) -> Description:
    verdict = judged.verdict
    leaves = stacked(judged.leaves) if checkpoint.layout is Layout.GEMMA_FLAX else judged.leaves
    return Description(
        path=checkpoint.path,
        name=str(checkpoint.path),
        layout=Layout.UNKNOWN if verdict.reason else checkpoint.layout,
        family=verdict.family,
        leaves=leaves,
        sizes={} if verdict.reason else sizes_in(checkpoint.layout, judged.leaves, recorded_beside(checkpoint.path)),
        ranks={} if verdict.reason else _ranks(leaves),
        norm_stats=tuple(norm_stats_of(checkpoint)),
        missing=verdict.problems,
        strays=verdict.strays,
        other=verdict.other,
        why_not=verdict.reason,
    )


def _ranks(leaves: Mapping[str, Leaf]) -> dict[str, dict[str, int]]:
    ranks: dict[str, dict[str, int]] = {}
    for weight, rank in ranks_of(leaves).items():
        expert = EXPERTS[expert_of(weight) or 0]
        ranks.setdefault(expert, {})[weight] = rank
    return ranks


def site_of(weight: str) -> str:
    """Return the short name of an adapted weight: q_einsum, linear, ..."""
    adapter = adapter_of(weight)
    module, _, name = weight.rpartition("/")
    return name if adapter and adapter.site.group == "ffn" else module.rpartition("/")[2].removesuffix("_1")


def _written_by(folder: Path) -> str:
    like = next(words for mark, words in _ORBAX_MARKS if (folder / mark).exists())
    metadata = json.loads((folder / METADATA_FILE).read_text())
    store = "OCDBT" if (folder / "manifest.ocdbt").is_file() else "a folder for each array"
    return f"orbax, {like}: {store}, zarr {3 if metadata.get('use_zarr3') else 2}"


def _training(checkpoint: Detected) -> dict[str, Any] | None:
    """Return what is known about the run that a step belongs to."""
    if checkpoint.step is None:
        return None
    number = int(checkpoint.step.name) if checkpoint.step.name.isdigit() else None
    state = checkpoint.step / "train_state"
    has_state = holds_tree(state)
    steps = [int(step.name) for step in steps_of(checkpoint.step.parent)] if number is not None else []
    return {"step": number, "train_state": has_state, "ema": _has_ema(state) if has_state else None, "steps": steps}


def _has_ema(state: Path) -> bool | None:
    """Return whether the step serves a moving average: then the train state has the trained parameters.

    None if the train state cannot be read (docs/bugs.md#b4).
    """
    try:
        names = [entry.keys for entry in tree_entries(state)]
    except CheckpointError:
        return None
    return any(keys[0] in ("params", "trainable") and len(keys) > 1 for keys in names)


def _peft_config(folder: Path) -> dict[str, Any] | None:
    """Return what PEFT recorded about its adapters."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CheckpointError(f"{folder / ADAPTER_CONFIG}: is no JSON ({error}); get the file again") from error
    kept = (
        "r",
        "lora_alpha",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "target_modules",
        "base_model_name_or_path",
    )
    return {name: config[name] for name in kept if name in config}
