"""Compare the rank and alpha that a checkpoint records for its adapters with those of a config."""

from collections.abc import Collection
from typing import Literal, NamedTuple, TypeAlias

from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.orbax.metadata import Metadata
from pi0_compat.lora.alphas import Alphas, experts_with
from pi0_compat.lora.sites import ExpertLoRAs, lora_of
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import EXPERTS, ExpertLoRA
from pi0_compat.paths import family_error, is_adapter

# What rank and alpha were taken from.
Origin: TypeAlias = Literal["config", "record", "alpha", "peft", "none"]


def experts_of(stored: Metadata, config: Pi0Spec | None) -> ExpertLoRAs:
    """Return the adapters of both experts: the config's, or without a config the recorded ones.

    Raises:
      LoadError: the config is of another family than the parameters, or config and record do not agree.
      CheckpointError: the record is damaged.
    """
    if config is not None:
        _require_family(stored, config)
        require_same_lora(str(stored.path), stored, config)
        return lora_of(config)
    recorded = stored.lora or {}
    try:
        return tuple(ExpertLoRA.from_json(recorded[name]) if recorded.get(name) else None for name in EXPERTS)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{stored.path}: damaged: its record of LoRA is {recorded!r:.120} ({error})") from error


def _require_family(stored: Metadata, config: Pi0Spec) -> None:
    if other := family_error(stored.leaves, config.family):
        raise LoadError(f"{stored.path}: {other}")
    require_recorded_family(stored, (config.family,), "the config")


def require_recorded_family(stored: Metadata, families: Collection[str], what: str) -> None:
    """Reject adapters or a checkpoint that record another family: adapters of pi0 and pi05 have the same names.

    Args:
      stored: the adapters, or a checkpoint.
      families: those that the model or its base may be of.
      what: the model or its base, in words.

    Raises:
      LoadError: another family is recorded.
    """
    if stored.family and families and stored.family not in families:
        words = "the adapters were extracted from" if all(map(is_adapter, stored.leaves)) else "the checkpoint is of"
        raise LoadError(
            f"{stored.path}: {words} a {stored.family}, and {what} is of "
            f"{' or '.join(families)}: choose one of the same family"
        )


class Known(NamedTuple):
    """Rank and alpha of the adapters of both experts, and what they were taken from: config, record, alpha or none."""

    experts: ExpertLoRAs
    origin: Origin

    @property
    def record(self) -> dict[str, object] | None:
        """What to record with the adapters; None if nothing is known of them."""
        return None if self.origin == "none" else as_record(self.experts)


def known_of(stored: Metadata, config: Pi0Spec | None, alpha: Alphas | None, *, rslora: bool) -> Known:
    """Return the adapters of both experts: with the alpha that is given, the config's, or the recorded ones.

    Raises:
      LoadError: two of them do not agree, or the config is of another family than the parameters.
      CheckpointError: the record is damaged.
    """
    if alpha is None and config and stored.lora and not config.has_lora:
        # The config of the base says which model it is; the adapters are as they were recorded.
        _require_family(stored, config)
        return Known(experts_of(stored, None), "record")
    if alpha is None:
        origin: Origin = "config" if config else "none" if stored.lora is None else "record"
        return Known(experts_of(stored, config), origin)
    if config is not None and config.has_lora:
        raise LoadError(f"{stored.path}: alpha is given, and a config with LoRA too; only one can be meant: drop one")
    experts = experts_with(alpha, stored.leaves, stored.path, rslora=rslora)
    if stored.lora and stored.lora != as_record(experts):
        raise LoadError(
            f"{stored.path}: LoRA was trained with {stored.lora}, the given alpha makes {as_record(experts)}; use the "
            "recorded one: give no alpha"
        )
    return Known(experts, "alpha")


def as_record(experts: ExpertLoRAs) -> dict[str, object]:
    """Return the record of adapters, as in ``Pi0Spec.lora``."""
    return {name: lora.to_json() for name, lora in zip(EXPERTS, experts, strict=True) if lora}


def require_same_lora(source: str, stored: Metadata, model: Pi0Spec) -> None:
    """Reject a recorded rank or alpha that is not the config's: another alpha silently scales every adapter."""
    for expert, recorded in (stored.lora or {}).items():
        if recorded != model.lora.get(expert):
            raise LoadError(
                f"{source}: LoRA on {expert} was trained with {recorded}, the config has {model.lora.get(expert)}; "
                "use the recorded one"
            )
