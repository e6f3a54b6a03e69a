"""``config.json`` of lerobot's policies: just the fields that a version declares, as it rejects any other.

Fields and defaults are those of ``configs/policies.py`` and ``policies/{pi0,pi05,pi0_fast}/configuration_*.py`` of the
released packages 0.4.0 to 0.6.1. Fields were added only, and none changed its meaning.
"""

from typing import Any, NamedTuple

from pi0_compat.layouts.lerobot.policy import Policy

LATEST = "0.6.1"
VERSIONS = ("0.4.0", "0.4.1", "0.4.2", "0.4.3", "0.4.4", "0.5.0", "0.5.1", "0.6.0", "0.6.1")
# The first version whose policies take actions relative to the state.
RELATIVE_SINCE = "0.5.1"
_FAST_SINCE = "0.4.3"
_FLOW = ("pi0", "pi05")


class _Field(NamedTuple):
    """A field, its default, the version that brought it, and the families that have it."""

    name: str
    default: Any
    since: str = VERSIONS[0]
    families: tuple[str, ...] = (*_FLOW, "pi0_fast")


# In lerobot's order. Those without a meaningful default are filled in by ``config_of``.
_FIELDS = (
    _Field("n_obs_steps", 1),
    _Field("input_features", None),
    _Field("output_features", None),
    _Field("device", "cpu"),
    _Field("use_amp", False),
    _Field("use_peft", False, "0.4.3"),
    # Nothing is uploaded unless its owner says so.
    _Field("push_to_hub", False),
    _Field("repo_id", None),
    _Field("private", None),
    _Field("tags", None),
    _Field("license", None),
    _Field("pretrained_path", None),
    _Field("pretrained_revision", None, "0.6.0"),
    _Field("paligemma_variant", "gemma_2b"),
    _Field("action_expert_variant", "gemma_300m"),
    _Field("dtype", None),
    _Field("chunk_size", None),
    _Field("n_action_steps", None),
    _Field("max_state_dim", None),
    _Field("max_action_dim", None),
    _Field("max_action_tokens", 256, families=("pi0_fast",)),
    _Field("num_inference_steps", 10, families=_FLOW),
    _Field("time_sampling_beta_alpha", 1.5, families=_FLOW),
    _Field("time_sampling_beta_beta", 1.0, families=_FLOW),
    _Field("time_sampling_scale", 0.999, families=_FLOW),
    _Field("time_sampling_offset", 0.001, families=_FLOW),
    _Field("min_period", 0.004, families=_FLOW),
    _Field("max_period", 4.0, families=_FLOW),
    _Field("use_relative_actions", False, RELATIVE_SINCE),
    _Field("relative_exclude_joints", [], RELATIVE_SINCE),
    _Field("action_feature_names", None, RELATIVE_SINCE),
    _Field("rtc_config", None, "0.4.2"),
    _Field("image_resolution", None),
    _Field("empty_cameras", 0),
    _Field("tokenizer_max_length", None),
    _Field("text_tokenizer_name", "google/paligemma-3b-pt-224", families=("pi0_fast",)),
    _Field("action_tokenizer_name", None, families=("pi0_fast",)),
    _Field("temperature", 0.0, families=("pi0_fast",)),
    _Field("max_decoding_steps", 256, families=("pi0_fast",)),
    _Field("fast_skip_tokens", 128, families=("pi0_fast",)),
    _Field("validate_action_token_prefix", True, families=("pi0_fast",)),
    _Field("use_kv_cache", True, families=("pi0_fast",)),
    _Field("normalization_mapping", None),
    _Field("gradient_checkpointing", False),
    _Field("compile_model", False),
    _Field("compile_mode", "max-autotune"),
    _Field("freeze_vision_encoder", False, "0.4.3", _FLOW),
    _Field("train_expert_only", False, "0.4.3", _FLOW),
    _Field("optimizer_lr", 2.5e-05),
    _Field("optimizer_betas", [0.9, 0.95]),
    _Field("optimizer_eps", 1e-08),
    _Field("optimizer_weight_decay", 0.01),
    _Field("optimizer_grad_clip_norm", 1.0),
    _Field("scheduler_warmup_steps", 1000),
    _Field("scheduler_decay_steps", 30000),
    _Field("scheduler_decay_lr", 2.5e-06),
)


def has(version: str, since: str) -> bool:
    """Return whether a version is at least another one."""
    return VERSIONS.index(version) >= VERSIONS.index(since)


def families_in(version: str) -> tuple[str, ...]:
    """Return the families that a version has policies of."""
    return (*_FLOW, "pi0_fast") if has(version, _FAST_SINCE) else _FLOW


def action_tokenizer(version: str) -> str:
    """Return the repository of FAST's tokenizer that a version takes."""
    return "lerobot/fast-action-tokenizer" if has(version, "0.5.0") else "physical-intelligence/fast"


def config_of(policy: Policy) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    model, relative = policy.model, policy.relative
    known: dict[str, Any] = {
        "input_features": policy.input_features,
        "output_features": policy.output_features,
        "device": policy.device,
        "use_peft": policy.base is not None,
        "dtype": policy.dtype,
        "chunk_size": model.action_horizon,
        "n_action_steps": model.action_horizon,
        "max_state_dim": model.action_dim,
        "max_action_dim": model.action_dim,
        "image_resolution": [model.image_size, model.image_size],
        "tokenizer_max_length": model.max_token_len,
        "normalization_mapping": policy.norm_map,
        "use_relative_actions": relative is not None,
        "action_tokenizer_name": action_tokenizer(policy.version),
    }
    if relative:
        known |= {"relative_exclude_joints": list(relative.absolute), "action_feature_names": list(relative.names)}
    fields = [field for field in _FIELDS if has(policy.version, field.since) and model.family in field.families]
    return {"type": model.family} | {field.name: known.get(field.name, field.default) for field in fields}
