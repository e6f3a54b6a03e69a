"""Compare the rank and alpha that a checkpoint records for its adapters with those of a config."""

from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.orbax.metadata import Metadata
from pi0_compat.lora.sites import ExpertLoRAs, lora_of
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import EXPERTS, ExpertLoRA
from pi0_compat.paths import family_error


def experts_of(stored: Metadata, config: Pi0Spec | None) -> ExpertLoRAs:
    """Return the adapters of both experts: the config's, or without a config the recorded ones.

    Raises:
      LoadError: the config is of another family than the parameters, or config and record do not agree.
      CheckpointError: the record is damaged.
    """
    if config is not None:
        if other := family_error(stored.leaves, config.family):
            raise LoadError(f"{stored.path}: {other}")
        require_same_lora(str(stored.path), stored, config)
        return lora_of(config)
    recorded = stored.lora or {}
    try:
        return tuple(ExpertLoRA.from_json(recorded[name]) if recorded.get(name) else None for name in EXPERTS)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{stored.path}: damaged: its record of LoRA is {recorded!r:.120} ({error})") from error


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
