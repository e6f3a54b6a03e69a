"""Resolve what lerobot's policy folder says besides weights: from options, the named config, and norm stats.

What openpi does and lerobot cannot say is an error, or needs an option of the caller's; nothing is dropped silently.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pi0_compat.checkpoints.lerobot_stats import StepStats, find_stats, statistics_of
from pi0_compat.errors import LoadError
from pi0_compat.layouts.lerobot.card import CARD, Provenance, card
from pi0_compat.layouts.lerobot.config import RELATIVE_SINCE, families_in, has
from pi0_compat.layouts.lerobot.options import LerobotOptions
from pi0_compat.layouts.lerobot.policy import ACTION, STATE, Policy, Relative
from pi0_compat.model.named_data import DataFacts, data_facts
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.norm_stats.openpi_files import ASSETS, FILE


class Resolved(NamedTuple):
    """A policy to write, and what to tell about it.

    Attributes:
      policy: everything but its weights.
      stats: the norm stats that were taken; None if none were.
      inexact: dimensions whose statistics float32 cannot hold, a sentence each.
    """

    policy: Policy
    stats: StepStats | None
    inexact: tuple[str, ...]


def resolve(
    options: LerobotOptions, model: Pi0Spec, config_name: str | None, assets: Path, dtype: str, path: Path
) -> Resolved:
    """Return the policy of a model.

    Args:
      options: what the caller says.
      model: sizes and family.
      config_name: the named config that the checkpoint was trained with; None if it is not known.
      assets: the folder of norm stats, which may not exist.
      dtype: what the policy computes in, float32 or bfloat16.
      path: the checkpoint, for messages.

    Raises:
      LoadError: something that lerobot has to know is unknown, or is something that lerobot cannot say; the message
        names the option.
    """
    facts = None if config_name is None else data_facts(config_name)
    if model.family not in families_in(options.version):
        raise LoadError(f"{path}: a {model.family}, of which lerobot {options.version} has no policy; name a later one")
    _require_robot_space(options, facts, config_name, path)
    stats = find_stats(assets, options, facts.asset_id if facts else None) if options.norm_stats else None
    sizes = _sizes(options, stats, model, path)
    found = statistics_of(stats, sizes, model.family) if stats else None
    try:
        images = options.images(model.family)
    except ValueError as error:
        raise LoadError(f"{path}: {error}") from error
    policy = Policy(
        model=model,
        version=options.version,
        images=images,
        state_dim=sizes[STATE],
        action_dim=sizes[ACTION],
        statistics=found and found.statistics,
        relative=_relative(options, facts, sizes[ACTION], path),
        state_in_prompt=_state_in_prompt(options, facts, model, path),
        device=options.device,
        dtype=dtype,
        base=options.adapters_base,
    )
    return Resolved(policy, stats, found.inexact if found else ())


def _require_robot_space(options: LerobotOptions, facts: DataFacts | None, name: str | None, path: Path) -> None:
    if facts and facts.adapt_to_pi and options.robot_transforms:
        raise LoadError(
            f"{path}: {name} changes joints and grippers of an ALOHA to the space that pi0 was trained in (openpi's "
            "adapt_to_pi), and lerobot has no such step; if you do it before the preprocessor and undo it after the "
            "postprocessor, say so: robot_transforms=False (--without-robot-transforms)"
        )


def _sizes(options: LerobotOptions, stats: StepStats | None, model: Pi0Spec, path: Path) -> dict[str, int]:
    """Return the size of the robot's state and actions."""
    said = {STATE: options.state_dim, ACTION: options.action_dim}
    sizes: dict[str, int] = {}
    for feature, size in said.items():
        known = stats.size(feature) if stats else model.action_dim
        sizes[feature] = min(known, model.action_dim) if size is None else size
        if sizes[feature] > model.action_dim:
            raise LoadError(f"{path}: {feature} has {sizes[feature]} numbers, the model takes {model.action_dim}")
        if stats and feature == STATE and sizes[feature] > known:
            raise LoadError(f"{stats.file}: norm stats of {known} numbers, and {feature} has {sizes[feature]}")
    return sizes


def _relative(options: LerobotOptions, facts: DataFacts | None, action_dim: int, path: Path) -> Relative | None:
    """Return which actions are relative to the state."""
    dimensions = options.delta_actions
    if dimensions is None:
        if facts is None:
            raise LoadError(
                f"{path}: no config is named, and no parameter shows whether its actions are relative to the state; "
                "say so: delta_actions=(6, -1) for six relative dimensions and an absolute one, () for absolute "
                "actions (--delta-actions 6,-1 or none), or name the config (--config)"
            )
        dimensions = facts.delta_actions
    mask = [n > 0 for n in dimensions for _ in range(abs(n))]
    if not any(mask):
        return None
    if not has(options.version, RELATIVE_SINCE):
        raise LoadError(
            f"{path}: its actions are relative to the state, which lerobot has since {RELATIVE_SINCE}; "
            f"{options.version} cannot say it"
        )
    if len(mask) > action_dim:
        raise LoadError(f"{path}: delta_actions are of {len(mask)} dimensions, the actions have {action_dim}")
    # openpi leaves dimensions beyond the mask alone.
    mask += [False] * (action_dim - len(mask))
    return _named(options.action_names, mask, path)


def _named(names: tuple[str, ...] | None, mask: list[bool], path: Path) -> Relative:
    """Return the mask as lerobot takes it: a dimension is absolute if its name has an excluded one in it."""
    if names is None:
        names = tuple(f"{'relative' if relative else 'absolute'}_{n}" for n, relative in enumerate(mask))
        return Relative(names, () if all(mask) else ("absolute",))
    if len(names) != len(mask):
        raise LoadError(f"{path}: {len(names)} names of actions, which have {len(mask)} dimensions")
    absolute = tuple(dict.fromkeys(name for name, relative in zip(names, mask, strict=True) if not relative))
    for name, relative in zip(names, mask, strict=True):
        if relative and (found := next((token for token in absolute if token.lower() in name.lower()), None)):
            raise LoadError(
                f"{path}: the action {name} is relative, and lerobot would take it for absolute, as its name has "
                f"{found} in it; give them other names (--action-names)"
            )
    return Relative(names, absolute)


def _state_in_prompt(options: LerobotOptions, facts: DataFacts | None, model: Pi0Spec, path: Path) -> bool:
    """Return whether a pi05's prompt has the state; lerobot's own pipeline has it always."""
    said = options.state_in_prompt
    if model.family != "pi05":
        if said is not None:
            raise LoadError(f"{path}: a {model.family}; state_in_prompt is for a pi05")
        return model.family == "pi0_fast"
    if facts is None and said is None:
        raise LoadError(
            f"{path}: no config is named, and no parameter shows whether the prompt of this pi05 has the state "
            "(openpi's discrete_state_input); say so: state_in_prompt=True or False (--state-in-prompt yes or no)"
        )
    if facts is None or said == facts.discrete_state_input:
        return bool(said)
    if facts.discrete_state_input and said is None:
        return True
    if said is None:
        raise LoadError(
            f"{path}: its config has discrete_state_input=False, and lerobot's own pipeline of a pi05 writes the state "
            "into the prompt; to write the pipeline without that step say so: state_in_prompt=False "
            "(--state-in-prompt no). lerobot keeps it when it trains from this folder"
        )
    raise LoadError(f"{path}: state_in_prompt={said}, and its config has discrete_state_input={not said}")


def write_provenance(
    resolved: Resolved, folder: Path, source: str, config_name: str | None, digests: Mapping[str, str]
) -> bool:
    """Write the model card, and openpi's own norm stats, which lerobot does not read and float32 cannot hold.

    Args:
      resolved: the policy.
      folder: its folder.
      source: the name of the checkpoint's file or folder.
      config_name: the named config; None if none was named.
      digests: path -> digest of every parameter that was read.

    Returns:
      Whether there are norm stats.
    """
    stats, words = resolved.stats, "none"
    if stats:
        place = folder / ASSETS / stats.asset_id / FILE
        place.parent.mkdir(parents=True)
        shutil.copyfile(stats.file, place)
        words = f"{ASSETS}/{stats.asset_id}/{FILE}"
    provenance = Provenance(source, digests, config_name, words)
    (folder / CARD).write_text(card(resolved.policy, provenance, resolved.inexact))
    return stats is not None
