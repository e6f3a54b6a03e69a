"""What the options of ``convert`` say about lerobot's policy folder."""

import argparse
from typing import Any

from pi0_compat.cli.output import Refusal
from pi0_compat.layouts.layout import Layout
from pi0_compat.layouts.lerobot.dataset import with_dataset
from pi0_compat.layouts.lerobot.options import LerobotOptions

# Option -> field, for those that are taken as they are.
_FIELDS = {
    "lerobot_version": "version",
    "state_dim": "state_dim",
    "action_dim": "action_dim",
    "device": "device",
    "adapters": "adapters_base",
}


def read_lerobot(options: argparse.Namespace, layout: Layout) -> LerobotOptions | None:
    """Return what the options say; None for another layout.

    Raises:
      Refusal: an option is not allowed, or given for another layout.
    """
    said = {field: value for name, field in _FIELDS.items() if (value := getattr(options, name)) is not None}
    said |= _parsed(options)
    # A policy that is read has norm stats too.
    if layout is Layout.LEROBOT and options.asset_id is not None:
        said["asset_id"] = options.asset_id
    if layout is not Layout.LEROBOT:
        if said or options.dataset_info:
            raise Refusal(f"the options of lerobot's folder are for --to lerobot, and this is --to {layout}")
        return None
    try:
        found = LerobotOptions(**said)
    except ValueError as error:
        raise Refusal(str(error)) from error
    return with_dataset(found, options.dataset_info) if options.dataset_info else found


def _parsed(options: argparse.Namespace) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if options.camera:
        pairs = [text.partition("=") for text in options.camera]
        if wrong := next((text for text, pair in zip(options.camera, pairs, strict=True) if not pair[2]), None):
            raise Refusal(f"--camera {wrong}: expected CAMERA=KEY, for example base_0_rgb=observation.images.top")
        said["cameras"] = {camera: key for camera, _, key in pairs}
    if options.delta_actions is not None:
        said["delta_actions"] = _dimensions(options.delta_actions)
    if options.action_names is not None:
        said["action_names"] = tuple(name.strip() for name in options.action_names.split(","))
    if options.state_in_prompt is not None:
        said["state_in_prompt"] = options.state_in_prompt == "yes"
    if options.without_norm_stats:
        said["norm_stats"] = False
    if options.without_robot_transforms:
        said["robot_transforms"] = False
    return said


def _dimensions(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    try:
        return tuple(map(int, text.split(",")))
    except ValueError as error:
        raise Refusal(f"--delta-actions {text}: expected numbers with commas, for example 6,-1, or none") from error
