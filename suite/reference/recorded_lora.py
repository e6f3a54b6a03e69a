"""Rank and alpha of a checkpoint's adapters: what it records, and what a config says."""

from suite.reference.adapters import ExpertLoRAs, lora_of
from suite.reference.checkpoints import Stored
from suite.reference.errors import CheckpointError
from suite.reference.pi0_config import Pi0Config
from suite.reference.specs import EXPERTS, ExpertLoRA
from suite.reference.weight_loaders import require_same_lora


def experts_of(stored: Stored, config: Pi0Config | None) -> ExpertLoRAs:
    """The adapters of both experts, as the config has them, or without one as they are recorded.

    Raises:
      LoadError: the config and the record do not agree.
      CheckpointError: the record is damaged.
    """
    if config is not None:
        require_same_lora(str(stored.path), stored, config)
        return lora_of(config)
    recorded = stored.lora or {}
    try:
        return tuple(ExpertLoRA.from_json(recorded[name]) if recorded.get(name) else None for name in EXPERTS)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{stored.path}: damaged: its record of LoRA is {recorded!r:.120} ({error})") from error


def as_record(experts: ExpertLoRAs) -> dict[str, object]:
    """What is recorded of the adapters: see ``Pi0Spec.lora``."""
    return {name: lora.to_json() for name, lora in zip(EXPERTS, experts, strict=True) if lora}
