"""A policy folder run as lerobot runs it: preprocessor, ``select_action`` for each action of a chunk, postprocessor.

The tokenizer is not downloaded: the batch has tokens. A masked camera is one that is not there.
"""

from typing import Any
from unittest import mock

import numpy as np
import torch
from lerobot.policies.factory import make_pre_post_processors
from lerobot.processor import tokenizer_processor

from ._tensors import Params, to_numpy, to_torch

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


class _Tokens:
    """A tokenizer that returns what the batch has."""

    tokens: torch.Tensor
    mask: torch.Tensor

    def __call__(self, texts: list[str], **_: Any) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens, "attention_mask": self.mask}


def run_policy(policy: Any, core: Any, config: Any, observation: Params, noise: np.ndarray) -> Params:
    """Return states and actions after the preprocessor, and what the postprocessor gives the robot.

    Args:
      policy: of lerobot, perhaps with adapters.
      core: the module in it that draws the noise.
      config: the policy's.
      observation: a batch of the robot's.
      noise: what the core draws.
    """
    tokens = _Tokens()
    with mock.patch.object(tokenizer_processor, "AutoTokenizer", mock.Mock(from_pretrained=lambda *_, **__: tokens)):
        before, after = make_pre_post_processors(config, str(config.pretrained_path))
        found = [
            _sample(policy, core, config, before, after, tokens, _only(observation, n), noise[n : n + 1])
            for n in range(len(noise))
        ]
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


def _only(observation: Params, n: int) -> Params:
    return {name: x[n] for name, x in observation.items()}


def _sample(
    policy: Any, core: Any, config: Any, before: Any, after: Any, tokens: Any, seen: Params, noise: np.ndarray
) -> Params:
    tokens.tokens = to_torch(seen["tokenized_prompt"])[None].long()
    tokens.mask = to_torch(seen["tokenized_prompt_mask"])[None]
    batch = {"observation.state": to_torch(seen["state"]), "action": to_torch(seen["actions"])[None], "task": ""}
    for camera in CAMERAS:
        if seen[f"image_mask/{camera}"]:
            # lerobot takes values between 0 and 1, channels first.
            batch[f"observation.images.{camera}"] = (to_torch(seen[f"image/{camera}"]).movedim(-1, 0) + 1) / 2
    inputs = before(batch)
    found = {"state": to_numpy(inputs["observation.state"][0]), "actions": to_numpy(inputs.pop("action")[0])}
    policy.reset()
    with mock.patch.object(core, "sample_noise", return_value=to_torch(noise)):
        chunk = [after(policy.select_action(inputs)) for _ in range(config.n_action_steps)]
    return found | {"robot_actions": to_numpy(torch.cat(chunk))}
