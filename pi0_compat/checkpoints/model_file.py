"""Write the model that a checkpoint is of as JSON, for the option ``--config-file``."""

import json
from pathlib import Path
from typing import NamedTuple

from pi0_compat.checkpoints.check import base_first
from pi0_compat.checkpoints.inspect import Description
from pi0_compat.errors import LoadError
from pi0_compat.layouts.layout import Layout
from pi0_compat.layouts.sizes import model_of
from pi0_compat.layouts.torch.peft_reading import with_lora
from pi0_compat.lora.alphas import Alphas, experts_with
from pi0_compat.lora.sites import ExpertLoRAs
from pi0_compat.model.named import named_models
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import EXPERTS, ExpertLoRA

_IN_NO_SHAPE = ("action_horizon", "max_token_len", "dtype")


class ModelFile(NamedTuple):
    """A model file that was written.

    Attributes:
      path: the file.
      model: the model in it.
      assumed: the fields that no shape shows, with the values that were written.
      like: the named config that they were taken from; None for openpi's defaults.
    """

    path: Path
    model: Pi0Spec
    assumed: dict[str, object]
    like: str | None


def write_model_file(
    described: Description, file: Path, *, alpha: Alphas | None = None, rslora: bool = False
) -> ModelFile:
    """Write the model of a checkpoint: sizes from its shapes, rank and alpha of its adapters as recorded or given.

    Args:
      described: what ``inspect_checkpoint`` returned.
      file: the file to make.
      alpha: alpha of the adapters, where the checkpoint does not record it; see ``fold_checkpoint``.
      rslora: with ``alpha``, whether the scale is alpha / sqrt(rank).

    Raises:
      FileExistsError: something is at ``file``.
      LoadError: the checkpoint does not hold a whole pi0; a size is in no shape; or alpha is not known.
    """
    missing = [name for name in ("action_expert", "action_dim", "image_size") if name not in described.sizes]
    if described.sizes.get("family") not in ("pi0", "pi05", "pi0_fast") or (missing and _has_actions(described)):
        raise LoadError(
            f"{described.name}: is no whole pi0, pi05 or pi0_fast ({described.family}), and a model file is of a whole "
            "one; take the base that it belongs to"
        )
    experts = _experts(described, alpha, rslora=rslora)
    model = with_lora(model_of(described.sizes, {}, described.name), experts)
    named = named_models()
    like = next((name for name in base_first(named) if _alike(named[name], model)), None)
    if like:
        model = with_lora(named[like], experts)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(json.dumps(model.to_json(), indent=2) + "\n")
    except FileExistsError:
        raise FileExistsError(f"{file}: already exists; choose another file or remove it first") from None
    return ModelFile(file, model, {name: getattr(model, name) for name in _IN_NO_SHAPE}, like)


def _has_actions(described: Description) -> bool:
    return described.sizes.get("family") != "pi0_fast"


def _experts(described: Description, alpha: Alphas | None, *, rslora: bool) -> ExpertLoRAs:
    if not described.ranks or described.layout is not Layout.OPENPI:
        return (None, None)
    if alpha is not None:
        return experts_with(alpha, described.leaves, described.name, rslora=rslora)
    if described.lora is None:
        raise LoadError(
            f"{described.name}: the alpha of its adapters is not recorded, and a model file has it; give it: "
            "--lora-alpha"
        )
    return tuple(ExpertLoRA.from_json(described.lora[name]) if described.lora.get(name) else None for name in EXPERTS)


def _alike(named: Pi0Spec, model: Pi0Spec) -> bool:
    """Return whether two models have the same parameters but for adapters."""
    return named.family == model.family and named.without_lora().param_spec() == model.without_lora().param_spec()
