"""Convert checkpoints between layouts. The result has the same bits, unless another dtype is requested.

Nothing is dropped or made up silently. Arrays pass through a slab at a time; the result is read back and compared.
"""

import dataclasses
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pi0_compat.checkpoints.lerobot import Resolved, resolve, write_provenance
from pi0_compat.checkpoints.norm_stats import beside, bring_norm_stats
from pi0_compat.errors import LoadError
from pi0_compat.layouts.detect import detect
from pi0_compat.layouts.judged import judge_checkpoint
from pi0_compat.layouts.layout import Detected, Layout
from pi0_compat.layouts.lerobot.options import LerobotOptions
from pi0_compat.layouts.lerobot.recognize import policy_family
from pi0_compat.layouts.open import open_merged, open_parameters
from pi0_compat.layouts.orbax.lora_record import Known, Origin, known_of
from pi0_compat.layouts.orbax.read_stream import StoredParameters
from pi0_compat.layouts.torch.peft_reading import PeftAdapters
from pi0_compat.layouts.torch.safetensors_folder import recorded_beside
from pi0_compat.layouts.verdict import judge
from pi0_compat.layouts.write import TARGETS, Job, Target, known_model, writable
from pi0_compat.lora.alphas import Alphas, scales_of
from pi0_compat.lora.fold_stream import FoldedStream
from pi0_compat.lora.sites import adapter_of
from pi0_compat.model.named import spec_of
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import LoRASpec
from pi0_compat.params import Leaf
from pi0_compat.paths import detect_family, family_error, is_adapter, unused_in
from pi0_compat.progress import Progress, no_progress
from pi0_compat.storage.atomic import appearing_at, destination, require_outside
from pi0_compat.storage.stream import Source
from pi0_compat.storage.transforms import Cast, Chosen, Digested
from pi0_compat.text import format_bytes

LAYOUTS = tuple(map(str, TARGETS))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Converted:
    """The result of a conversion.

    Attributes:
      path: the file or folder.
      layout: one of ``LAYOUTS``.
      leaves: path -> shape and dtype of every parameter written, under openpi's names.
      left_out: what the checkpoint has and the layout has no room for.
      assets: whether norm stats were copied; None for a layout without a place for them.
      lost: path of a folded weight -> the share of its delta that the dtype could not hold.
      scales: rank and alpha of each group of adapters, such as ``paligemma.attn``; none if they are not known.
      origin: what they were taken from, as in ``Made``.
      inexact: what is not exactly as before of norm stats that are brought to or from lerobot, a sentence each.
    """

    path: Path
    layout: str
    leaves: dict[str, Leaf]
    left_out: dict[str, Leaf]
    assets: bool | None
    lost: dict[str, float]
    scales: dict[str, LoRASpec]
    origin: Origin
    inexact: tuple[str, ...] = ()


def convert_checkpoint(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: Pi0Spec | str | None = None,
    layout: str = "openpi_pytorch",
    alpha: Alphas | None = None,
    rslora: bool = False,
    dtype: Any = None,
    fold: bool = False,
    drop: bool = False,
    lerobot: LerobotOptions | None = None,
    asset_id: str | None = None,
    max_shard_bytes: int | None = None,
    base: str | os.PathLike[str] | None = None,
    progress: Progress = no_progress,
) -> Converted:
    """Write a checkpoint in another layout. It appears at ``out`` complete or not at all.

    At most a layer of an array, or 64 MB, is in memory at a time. For a layout of plain files, two conversions give the
    same bytes; orbax (``openpi``) names its files at random. When a pi0 is written, the ``assets`` beside the
    checkpoint (norm stats) are copied, with a warning if there are none.

    Args:
      path: a checkpoint in any layout, local or a URL: its file or folder, or the folder of a step or run.
      out: the file (``paligemma_npz``) or folder to make; its parents are made too.
      config: the model that the checkpoint is of, or the name of a config. Only its sizes, family and alpha count;
        for ``lerobot`` also what a named one does to its data. Without it sizes come from shapes, and what is in no
        shape from the named config that fits.
      layout: one of ``LAYOUTS``.
      alpha: in place of a config, alpha of all adapters, or of each group: ``paligemma.attn``, ``paligemma.ffn``,
        ``action_expert.attn``, ``action_expert.ffn``.
      rslora: with ``alpha``, whether the scale is alpha / sqrt(rank).
      dtype: the dtype of all parameters; without it every array keeps its bits.
      fold: add adapters to their weights first.
      drop: leave out what the layout has no room for, instead of raising an error.
      lerobot: what lerobot's folder says besides, for the layout ``lerobot``.
      asset_id: openpi's name for the robot, under which the norm stats of a policy of lerobot's are written; by default
        that of the data set that it was trained on.
      max_shard_bytes: for ``hugging_face``, the most that the tensors of a file may have, unless a single one has more;
        by default all are in one file. openpi's and lerobot's own readers take one file only.
      base: of a PEFT adapter at ``path``, as a training of lerobot leaves it: the policy or the checkpoint in openpi's
        PyTorch layout that it goes on. It is merged into the weights, on whichever modules it is.
      progress: called with a title and the total bytes when work starts; returns a context manager that yields a
        function, which is called with the bytes done since its last call. By default nothing is shown.

    Returns:
      What was written and what was left out.

    Raises:
      ValueError: the layout or the config is unknown.
      FileExistsError: something is at ``out``; it is left alone.
      OSError: ``out`` is a URL, or lies inside of the checkpoint; or the disk is full.
      CheckpointError: there is no readable checkpoint at ``path``, or what is read back is not what was written.
      LoadError: the layout has no room for something, the checkpoint is not of ``config``, or a size or alpha that is
        needed is unknown.
    """
    name, config = (config if isinstance(config, str) else None), spec_of(config)
    target = TARGETS[writable(layout)]
    options = _options(lerobot, layout)
    if options and options.adapters_base:
        target = target._replace(holds=is_adapter, takes_adapters=True)
    out = destination(out)
    _require_suffix(target, out)
    _require_shards(target, layout, max_shard_bytes)
    adapter, detected = (None, detect(path)) if base is None else (_adapter(path), detect(base))
    for one in filter(None, (adapter, detected)):
        require_outside(out, one.root)
    found = judge_checkpoint(detected).verdict
    found.require_known(detected.path)
    _require_expert(detected.path, found.family, layout, config)
    with _opened(detected, adapter, config and config.without_lora(), dtype) as (checkpoint, merged):
        verdict = judge(Layout.OPENPI, checkpoint.leaves)
        verdict.require_whole(checkpoint.path)
        known = _known(checkpoint, config, alpha, rslora=rslora)
        read = Digested(checkpoint)
        source = read if options else checkpoint
        job, lost = _prepared(source, known, config, dtype, fold=fold, progress=progress)
        unused = unused_in(job.source.leaves)
        homeless = unused | set(verdict.strays)
        held = [path for path in job.source.leaves if target.holds(path) and path not in homeless]
        left_out = {path: leaf for path, leaf in job.source.leaves.items() if path not in held}
        to_drop = [path for path in left_out if path not in unused and (not target.takes_adapters or path in homeless)]
        _require_place(job.source, target, layout, to_drop, drop=drop)
        step = beside(detected).parent
        policy = _policy(options, job, name, homeless, step) if options else None
        chosen = Chosen(job.source, held.__contains__)
        written = policy.policy if policy else None
        job = job._replace(source=chosen, policy=written, max_shard_bytes=max_shard_bytes)
        with appearing_at(out) as place:
            target.write(job, place)
            assets: bool | None = None
            notes: tuple[str, ...] = ()
            if policy:
                assets = write_provenance(policy, place, detected.root.name, name, read.digests)
            elif _has_assets(target, detected.layout):
                carried = bring_norm_stats(adapter or detected, place, _family(job, detected), asset_id)
                assets, notes = carried.asset_id is not None, carried.notes
    return Converted(
        path=out,
        layout=layout,
        leaves=dict(job.source.leaves),
        left_out=left_out,
        assets=assets,
        lost=lost | merged,
        scales=scales_of(known.experts),
        origin=known.origin,
        inexact=policy.inexact if policy else notes,
    )


def _adapter(path: str | os.PathLike[str]) -> Detected:
    detected = detect(path)
    if detected.layout is not Layout.PEFT:
        raise LoadError(f"{detected.path}: base is for a PEFT adapter, and this is {detected.layout}")
    return detected


@contextmanager
def _opened(
    detected: Detected, adapter: Detected | None, config: Pi0Spec | None, dtype: Any
) -> Iterator[tuple[Source, dict[str, float]]]:
    """Yield the parameters, with an adapter merged into them if there is one, and what rounding takes of it."""
    if adapter is None:
        with open_parameters(detected, config) as source:
            yield source, {}
        return
    yield open_merged(detected, adapter.path, config, None if dtype is None else np.dtype(dtype))


def _options(lerobot: LerobotOptions | None, layout: str) -> LerobotOptions | None:
    """Return what to say in lerobot's folder; None for another layout, for which there is nothing to say."""
    if layout == Layout.LEROBOT:
        return lerobot or LerobotOptions()
    if lerobot:
        raise ValueError(f"lerobot={lerobot}: these are for the layout lerobot, and this is {layout}")
    return None


def _policy(
    options: LerobotOptions, job: Job, config_name: str | None, homeless: Collection[str], step: Path
) -> Resolved:
    """Return the policy of a checkpoint with, or without, adapters."""
    base = Chosen(job.source, lambda path: not is_adapter(path) and path not in homeless)
    model = job.config or known_model(base)
    dtypes = {leaf.dtype.name for leaf in base.leaves.values()}
    dtype = "bfloat16" if dtypes == {"bfloat16"} else "float32"
    return resolve(options, model, config_name, step, dtype, job.source.path)


def _require_expert(path: Path, family: str, layout: str, config: Pi0Spec | None) -> None:
    """Reject a release for a layout that holds a whole pi0: no config gives it an action expert."""
    if family not in ("PaliGemma", "Gemma 1") or layout not in (Layout.OPENPI_PYTORCH, Layout.LEROBOT):
        return
    if config is None or config.family != "pi0_fast":
        raise LoadError(
            f"{path}: a {family} has no action expert, and {layout} holds a whole model: fine-tune from it first, or "
            "convert it to openpi, hugging_face, or paligemma_npz"
        )


def _require_suffix(target: Target, out: Path) -> None:
    """Require the suffix by which a file's layout is detected."""
    if not out.name.endswith(target.suffix):
        raise LoadError(f"{out}: this layout is one file, whose name has to end in {target.suffix}")


def _require_shards(target: Target, layout: str, max_shard_bytes: int | None) -> None:
    """Reject shards that the layout's own reader would not find."""
    if max_shard_bytes is None:
        return
    if max_shard_bytes < 1:
        raise ValueError(f"max_shard_bytes={max_shard_bytes}; expected at least one")
    if not target.takes_shards:
        raise LoadError(
            f"shards are for {Layout.HUGGING_FACE}, and this is {layout}, whose own reader looks for one file: "
            "leave max_shard_bytes (--max-shard-size) out"
        )


def _known(checkpoint: Source, config: Pi0Spec | None, alpha: Alphas | None, *, rslora: bool) -> Known:
    """Return what is known of the adapters of a checkpoint; only openpi's layout and PEFT's have some."""
    if isinstance(checkpoint, StoredParameters):
        return known_of(checkpoint.stored, config, alpha, rslora=rslora)
    if alpha is not None:
        raise LoadError(f"{checkpoint.path}: an alpha is given, and no adapters of openpi's layout; leave it out")
    if isinstance(checkpoint, PeftAdapters):
        return Known(checkpoint.experts, "peft")
    return Known((None, None), "config" if config else "none")


def _prepared(
    checkpoint: Source, known: Known, config: Pi0Spec | None, dtype: Any, *, fold: bool, progress: Progress
) -> tuple[Job, dict[str, float]]:
    """Return the parameters to write, and what folding loses, which is complete once they are written."""
    if config and (other := family_error(checkpoint.leaves, config.family)):
        raise LoadError(f"{checkpoint.path}: {other}")
    source: Source = checkpoint
    lost: dict[str, float] = {}
    if fold:
        folded = FoldedStream(source, known.experts, dtype)
        source, lost = folded, folded.lost
    if dtype is not None:
        source = Cast(source, dtype)
    lora = {} if fold and known.record is not None else known.record
    family = config.family if config else detect_family(source.leaves)
    return Job(source, known.experts, lora, config and config.without_lora(), family, progress), lost


def _require_place(source: Source, target: Target, layout: str, homeless: Sequence[str], *, drop: bool) -> None:
    """Reject losing an adapter, or any parameter without a place that is used, unless it may be dropped."""
    adapters = [path for path in source.leaves if is_adapter(path) and _goes_with(target, path)]
    if adapters and not target.takes_adapters:
        raise LoadError(
            f"{source.path}: {len(adapters)} adapter matrices, for example {adapters[0]}, have no place in the layout "
            f"{layout} and would be lost; fold them into the weights: fold=True (--fold), or fold the checkpoint first"
        )
    if homeless and not drop:
        size = format_bytes(sum(source.leaves[path].num_bytes for path in homeless))
        raise LoadError(
            f"{source.path}: {layout} has no place for {len(homeless)} parameters ({size}), for example {homeless[0]}; "
            "to leave them out say so: drop=True (--drop)"
        )


def _goes_with(target: Target, path: str) -> bool:
    """Return whether the weight that an adapter is on is written, and would lack what the adapter adds."""
    adapter = adapter_of(path)
    return adapter is None or target.holds(adapter.weight)


def _has_assets(target: Target, layout: Layout) -> bool:
    """Return whether norm stats matter: for a pi0 that is written as one."""
    return target.takes_assets and layout in (Layout.OPENPI, Layout.OPENPI_PYTORCH, Layout.LEROBOT)


def _family(job: Job, detected: Detected) -> str:
    """Return the family that decides how norm stats are used: names alone do not tell pi0-FAST from PaliGemma."""
    if job.config:
        return job.config.family
    return policy_family(recorded_beside(detected.path)) or job.family
