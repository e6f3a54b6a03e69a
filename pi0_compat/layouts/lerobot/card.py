"""The model card of a converted policy: where it comes from, and what it is not the same as. The same bytes every time.

The Hub shows ``README.md``; the lines between dashes are its metadata.
"""

import hashlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import NamedTuple

from pi0_compat.layouts.lerobot.policy import Policy

CARD = "README.md"


class Provenance(NamedTuple):
    """Where a policy comes from.

    Attributes:
      source: the name of the checkpoint, without the folders of a machine.
      digests: path -> sha256 of every parameter that was read, under openpi's names.
      config: the named config; None if none was named.
      stats: where the norm stats come from, in words.
    """

    source: str
    digests: Mapping[str, str]
    config: str | None
    stats: str


def digest_of(digests: Mapping[str, str]) -> str:
    """Return one digest of all parameters: the sha256 of a line ``path digest`` for each, in the order of the paths."""
    lines = "".join(f"{path} {digest}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def converter() -> str:
    """Return name and version of this package."""
    try:
        return f"pi0-compat {metadata.version('pi0-compat')}"
    except metadata.PackageNotFoundError:
        return "pi0-compat from a source tree"


def card(policy: Policy, provenance: Provenance, inexact: Sequence[str]) -> str:
    """Return the content of ``README.md``."""
    model = policy.model
    rows = {
        "family": model.family,
        "source": provenance.source,
        "source digest": f"sha256 {digest_of(provenance.digests)} of {len(provenance.digests)} parameters",
        "openpi config": provenance.config or "not named",
        "sizes": f"action_dim {model.action_dim}, action_horizon {model.action_horizon}, "
        f"max_token_len {model.max_token_len}",
        "converter": converter(),
        "written for": f"lerobot {policy.version}",
        "norm stats": provenance.stats,
        "images": ", ".join(policy.images),
        "actions": _actions(policy),
    }
    if policy.base:
        rows["adapters for"] = policy.base
    if model.family == "pi05":
        rows["prompt"] = f"{'with' if policy.state_in_prompt else 'without'} the state"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    notes = "\n".join(f"* {note}" for note in (*_NOTES, *inexact))
    return (
        f"---\nlibrary_name: lerobot\npipeline_tag: robotics\ntags: [lerobot, robotics, {model.family}]\n---\n\n"
        f"# A {model.family} of openpi as a policy of lerobot\n\n| what | value |\n|---|---|\n{table}\n\n"
        f"## What is not as in openpi\n\n{notes}\n"
    )


_NOTES = (
    "lerobot appends a line break to a pi0's prompt; openpi also strips it and writes underscores as spaces.",
    "lerobot resizes images itself; give it values in [0, 1], channels first.",
    "A training by lerobot replaces the norm stats by those of its dataset.",
)


def _actions(policy: Policy) -> str:
    if policy.relative is None:
        return f"{policy.action_dim}, absolute"
    absolute = policy.relative.absolute
    numbers = [n for n, name in enumerate(policy.relative.names) if any(token in name for token in absolute)]
    return f"{policy.action_dim}, relative to the state, but for {numbers or 'none'}"
