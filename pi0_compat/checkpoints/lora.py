"""Fold the adapters of LoRA checkpoints into the weights, extract them, and attach them to a base.

The result is the folder of a step, as openpi's: ``params``, and beside it the ``assets`` (norm stats), if there are
any. It appears complete or not at all, it is read back and compared, and no array is in memory whole.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from pi0_compat.checkpoints.norm_stats import assets_beside, copy_assets
from pi0_compat.errors import LoadError, prefix_errors
from pi0_compat.layouts.detect import detect
from pi0_compat.layouts.layout import Detected, Layout
from pi0_compat.layouts.orbax.folder import PARAMS
from pi0_compat.layouts.orbax.lora_record import Known, Origin, known_of, require_recorded_family
from pi0_compat.layouts.orbax.metadata import Metadata, read_metadata
from pi0_compat.layouts.orbax.read_stream import StoredParameters
from pi0_compat.layouts.orbax.write_stream import save_streamed
from pi0_compat.layouts.sizes import model_of, sizes_of
from pi0_compat.layouts.torch.peft_reading import PeftAdapters
from pi0_compat.layouts.verdict import judge
from pi0_compat.lora.alphas import Alphas, scales_of
from pi0_compat.lora.fold_stream import FoldedStream
from pi0_compat.lora.sites import adapter_of, adapters_in, require_rank, require_whole_adapters, spec_among
from pi0_compat.model.named import spec_of
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import LoRASpec
from pi0_compat.params import Leaf
from pi0_compat.paths import detect_family, expert_of, families_of, family_error, is_adapter
from pi0_compat.progress import Progress, no_progress
from pi0_compat.storage.atomic import appearing_at, destination, require_outside
from pi0_compat.storage.stream import Source
from pi0_compat.storage.transforms import Cast, Chosen, Joined
from pi0_compat.text import shorten

_INTO_OPENPI = "convert it first: pi0-compat convert CHECKPOINT --to openpi"
_ONTO_A_BASE = "attach them to their base first: pi0-compat attach ADAPTER --to BASE"


class Made(NamedTuple):
    """A checkpoint that was written and read back.

    Attributes:
      path: its ``params`` folder.
      leaves: path -> shape and dtype of every parameter.
      assets: whether norm stats were copied.
      lost: after a fold, path of a weight -> the share of its delta that its dtype could not hold.
      scales: rank and alpha of each group of adapters, such as ``paligemma.attn``; none if they are not known.
      origin: what they were taken from: the ``config``, the checkpoint's ``record``, the ``alpha`` that was given,
        ``peft``'s settings; or ``none``.
    """

    path: Path
    leaves: dict[str, Leaf]
    assets: bool
    lost: dict[str, float]
    scales: dict[str, LoRASpec]
    origin: Origin


def fold_checkpoint(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: Pi0Spec | str | None = None,
    alpha: Alphas | None = None,
    rslora: bool = False,
    dtype: Any = None,
    progress: Progress = no_progress,
) -> Made:
    """Write the base model that computes what a LoRA checkpoint computes.

    Args:
      path: the checkpoint, or the folder of its step or run, local or a URL.
      out: the folder of a step to make.
      config: the model it was trained with, or the name of its config; needed where the checkpoint does not record
        rank and alpha, as openpi's do not.
      alpha: in place of a config, alpha of all adapters, or of each group: ``paligemma.attn``, ``paligemma.ffn``,
        ``action_expert.attn``, ``action_expert.ffn``; ranks are in the shapes.
      rslora: with ``alpha``, whether the scale is alpha / sqrt(rank).
      dtype: the dtype of all parameters; without it each keeps its own. Deltas are summed in float64, added in float32,
        and the sum is rounded to the dtype once.
      progress: called with a title and the total bytes when work starts; returns a context manager that yields a
        function, which is called with the bytes done since its last call. By default nothing is shown.

    Returns:
      What was written, with path of a weight -> the share of its delta that rounding took, and the scales used.

    Raises:
      FileExistsError: something is at ``out``.
      OSError: ``out`` is a URL, or lies inside of the checkpoint; or the disk is full.
      CheckpointError: there is no readable checkpoint at ``path``, or it is damaged.
      LoadError: the checkpoint has no adapters or an incomplete one, its alpha is unknown, or a value overflows in the
        dtype.
    """
    stored = _read(path, out)
    _require_adapters(stored, "there is nothing to fold")
    known = known_of(stored, spec_of(config), alpha, rslora=rslora)
    folded = FoldedStream(StoredParameters(stored), known.experts, dtype)
    source = folded if dtype is None else Cast(folded, dtype)
    made = _write(source, stored.path, out, {}, "folding", progress, family=stored.family)
    return made._replace(lost=folded.lost, scales=scales_of(known.experts), origin=known.origin)


def extract_checkpoint(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: Pi0Spec | str | None = None,
    alpha: Alphas | None = None,
    rslora: bool = False,
    base: bool = False,
    progress: Progress = no_progress,
) -> Made:
    """Write the adapters of a LoRA checkpoint alone, or its base alone.

    Args:
      path: the checkpoint, or the folder of its step or run, local or a URL.
      out: the folder of a step to make.
      config: the model it was trained with, or the name of its config; rank and alpha are recorded from it.
      alpha, rslora: as ``fold_checkpoint``.
      base: write the base instead of the adapters.
      progress: called with a title and the total bytes when work starts; returns a context manager that yields a
        function, which is called with the bytes done since its last call. By default nothing is shown.

    Returns:
      The ``params`` folder that was written, path -> shape and dtype of its parameters, and whether norm stats were
        copied.

    Raises:
      FileExistsError, OSError, CheckpointError: as ``fold_checkpoint``.
      LoadError: the checkpoint has no adapters, or its record does not agree with ``config``.
    """
    stored = _read(path, out)
    _require_adapters(stored, "there is nothing to extract")
    source = StoredParameters(stored)
    known = known_of(stored, spec_of(config), alpha, rslora=rslora)
    if base:
        rest = Chosen(source, lambda path: not is_adapter(path))
        return _write(rest, stored.path, out, {}, "extracting the base", progress, family=stored.family)
    adapters, family = Chosen(source, is_adapter), _only_family(stored)
    made = _write(adapters, stored.path, out, known.record, "extracting", progress, family=family)
    return made._replace(scales=scales_of(known.experts), origin=known.origin)


def attach_checkpoint(
    path: str | os.PathLike[str],
    base: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: Pi0Spec | str | None = None,
    alpha: Alphas | None = None,
    rslora: bool = False,
    progress: Progress = no_progress,
) -> Made:
    """Write adapters and a base as one checkpoint, with the norm stats of the adapters or else of the base.

    Args:
      path: the adapters, as ``extract_checkpoint`` writes them, or PEFT's, local or a URL.
      base: a checkpoint without adapters, local or a URL.
      out: the folder of a step to make.
      config: the model the adapters were trained with, or the name of its config, where they do not record alpha.
      alpha, rslora: as ``fold_checkpoint``.
      progress: called with a title and the total bytes when work starts; returns a context manager that yields a
        function, which is called with the bytes done since its last call. By default nothing is shown.

    Returns:
      The ``params`` folder that was written, path -> shape and dtype of its parameters, and whether norm stats were
        copied.

    Raises:
      FileExistsError, OSError, CheckpointError: as ``fold_checkpoint``.
      LoadError: ``path`` holds anything but adapters, ``base`` already has some, or they are not of this base: other
        shapes, another rank than is recorded, or sites without an adapter.
    """
    place, model = destination(out), spec_of(config)
    onto = read_metadata(_openpi(detect(base), place))
    _require_no_adapters(onto)
    _require_whole(onto)
    adapters, known = _adapters_for(onto, path, place, model, alpha, rslora=rslora)
    joined = Joined(StoredParameters(onto), adapters)
    if model and (other := family_error(joined.leaves, model.family)):
        raise LoadError(f"{onto.path}: {other}")
    with prefix_errors(adapters.path):
        _require_attachable(joined, () if known.origin == "none" else known.experts)
    beside = adapters.path if assets_beside(adapters.path).is_dir() else onto.path
    made = _write(joined, beside, out, known.record, "attaching", progress, family=onto.family)
    return made._replace(scales=scales_of(known.experts), origin=known.origin)


def _adapters_for(
    base: Metadata,
    path: str | os.PathLike[str],
    out: Path,
    model: Pi0Spec | None,
    alpha: Alphas | None,
    *,
    rslora: bool,
) -> tuple[Source, Known]:
    """Return adapters of openpi's layout or PEFT's that may go onto a base, and their rank and alpha."""
    detected = detect(path)
    if detected.layout is Layout.PEFT:
        require_outside(out, detected.root)
        if alpha is not None:
            raise LoadError(f"{detected.path}: its adapter_config.json has alpha; leave out the one that is given")
        peft = PeftAdapters(detected.path, model or model_of(sizes_of(base.leaves), {}, base.path))
        return peft, Known(peft.experts, "peft")
    stored = read_metadata(_openpi(detected, out))
    _require_adapters(stored, "there is nothing to attach")
    _require_adapters_alone(stored)
    _require_whole(stored)
    require_recorded_family(stored, families_of(base.leaves), f"the base {base.path}")
    return StoredParameters(stored), known_of(stored, model, alpha, rslora=rslora)


def _read(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Metadata:
    """Return the metadata of a checkpoint that has all of its parameters, and no others."""
    place = destination(out)  # before anything is read
    stored = read_metadata(_openpi(detect(path), place))
    _require_whole(stored)
    return stored


def _require_whole(stored: Metadata) -> None:
    verdict = judge(Layout.OPENPI, stored.leaves)
    verdict.require_whole(stored.path)
    verdict.require_place(stored.path)


def _openpi(detected: Detected, out: Path) -> Path:
    """Return the ``params`` folder of a checkpoint in openpi's layout, if ``out`` is not inside of it."""
    require_outside(out, detected.root)
    if detected.layout is not Layout.OPENPI:
        raise LoadError(
            f"{detected.path}: expected a checkpoint in openpi's layout, found {detected.layout}; {_INTO_OPENPI}"
            if detected.layout is not Layout.PEFT
            else f"{detected.path}: expected a checkpoint in openpi's layout, found PEFT's adapters; {_ONTO_A_BASE}"
        )
    return detected.path


def _require_adapters(stored: Metadata, so: str) -> None:
    if not any(map(is_adapter, stored.leaves)):
        raise LoadError(f"{stored.path}: none of its {len(stored.leaves)} parameters is an adapter; {so}")


def _require_adapters_alone(adapters: Metadata) -> None:
    if others := [path for path in adapters.leaves if not is_adapter(path)]:
        raise LoadError(
            f"{adapters.path}: {len(others)} parameters are no adapters, for example {others[0]}; extract them first"
        )


def _require_no_adapters(base: Metadata) -> None:
    if present := [path for path in base.leaves if is_adapter(path)]:
        raise LoadError(
            f"{base.path}: already has {len(present)} adapter matrices, for example {present[0]}; pass a base, or fold "
            "them first"
        )


def _require_attachable(joined: Source, experts: Any) -> None:
    """Require that every adapter fits its weight, and that every recorded site has one."""
    require_whole_adapters(joined.leaves)
    adapters = {adapter.weight: adapter for adapter in adapters_in(filter(is_adapter, joined.leaves))}
    missing = []
    for path in joined.leaves if experts else ():
        adapter = adapter_of(path)
        spec = spec_among(experts, adapter) if adapter and adapter.weight == path else None
        if adapter and spec and path in adapters:
            require_rank(adapter, joined.leaves[adapter.a].shape[-1], spec)
        elif spec and expert_of(path) is not None:
            missing.append(f"  - {path}: expected an adapter of rank {spec.rank}, found none")
    if missing:
        text = "\n".join(shorten(missing))
        raise ValueError(f"the base has {len(missing)} sites for which there is no adapter\n{text}")


def _only_family(stored: Metadata) -> str | None:
    """Return the family of a checkpoint if its names, or its record, leave one; adapters alone have lost the names."""
    families = families_of(stored.leaves)
    return families[0] if len(families) == 1 else stored.family


def _write(
    source: Source,
    beside: Path,
    out: str | os.PathLike[str],
    lora: Any,
    title: str,
    progress: Progress,
    *,
    family: str | None = None,
) -> Made:
    """Write the parameters of a step, and copy the assets that lie beside the ``params`` folder of another."""
    with appearing_at(out) as folder:
        folder.mkdir()
        save_streamed(source, folder / PARAMS, lora=lora, family=family, title=title, progress=progress)
        assets = copy_assets(assets_beside(beside), folder, family or detect_family(source.leaves))
    return Made(Path(out).expanduser() / PARAMS, dict(source.leaves), assets, {}, {}, "none")
