"""The pipelines before and after a policy of lerobot: its steps as JSON, and the file of their statistics.

Steps and their order are those of ``policies/{pi0,pi05,pi0_fast}/processor_*.py`` in lerobot 0.4.0 to 0.6.1. A step's
statistics are in a file of their own, which ``state_file`` names.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pi0_compat.layouts.lerobot.config import RELATIVE_SINCE, action_tokenizer, has
from pi0_compat.layouts.lerobot.policy import POSTPROCESSOR, PREPROCESSOR, Policy, Tensors
from pi0_compat.layouts.torch.safetensors_file import write_safetensors
from pi0_compat.params import leaves_of

TOKENIZER = "google/paligemma-3b-pt-224"
NORMALIZER, UNNORMALIZER = "normalizer_processor", "unnormalizer_processor"
# openpi's epsilon: lerobot adds it to a standard deviation, and takes it for a range of zero (its default is 1e-8).
EPS = 1e-6

Step = dict[str, Any]


def write_pipelines(policy: Policy, folder: Path) -> None:
    """Write both pipelines, and the statistics of their normalizing steps."""
    before, after = policy.statistics or (None, None)
    _write(PREPROCESSOR, _before(policy), before, folder)
    _write(POSTPROCESSOR, _after(policy), after, folder)


def _write(name: str, steps: list[Step], tensors: Tensors | None, folder: Path) -> None:
    for number, step in enumerate(steps):
        if tensors is None or step["registry_name"] not in (NORMALIZER, UNNORMALIZER):
            continue
        step["state_file"] = f"{name}_step_{number}_{step['registry_name']}.safetensors"
        ordered = {key: np.ascontiguousarray(tensors[key], np.float32) for key in sorted(tensors)}
        write_safetensors(folder / step["state_file"], leaves_of(ordered), ordered.items())
    (folder / f"{name}.json").write_text(json.dumps({"name": name, "steps": steps}, indent=2) + "\n")


def _before(policy: Policy) -> list[Step]:
    rename, batch = _step("rename_observations_processor", rename_map={}), _step("to_batch_processor")
    device = _step("device_processor", device=policy.device, float_dtype=None)
    tokenizer = _step(
        "tokenizer_processor",
        max_length=policy.model.max_token_len,
        task_key="task",
        padding_side="right",
        padding="max_length",
        truncation=True,
        tokenizer_name=TOKENIZER,
    )
    normalizing = [*_relative(policy), _normalizer(NORMALIZER, policy, policy.input_features | policy.output_features)]
    new_line = _step("pi0_new_line_processor")
    if policy.model.family == "pi0":
        return [rename, batch, new_line, tokenizer, device, *normalizing]
    if policy.model.family == "pi05":
        # Without the state, openpi's prompt of a pi05 is a pi0's.
        prompt = _step("pi05_prepare_state_tokenizer_processor_step") if policy.state_in_prompt else new_line
        return [rename, batch, *normalizing, prompt, tokenizer, device]
    prompt = _step("pi0_fast_prepare_state_tokenizer_processor_step")
    return [rename, batch, *normalizing, prompt, tokenizer, _action_tokenizer(policy), device]


def _after(policy: Policy) -> list[Step]:
    steps = [_normalizer(UNNORMALIZER, policy, policy.output_features)]
    if has(policy.version, RELATIVE_SINCE):
        steps.append(_step("absolute_actions_processor", enabled=policy.relative is not None))
    return [*steps, _step("device_processor", device="cpu", float_dtype=None)]


def _step(registry_name: str, **config: Any) -> Step:
    return {"registry_name": registry_name, "config": config}


def _relative(policy: Policy) -> list[Step]:
    if not has(policy.version, RELATIVE_SINCE):
        return []
    relative = policy.relative
    names = list(relative.names) if relative else None
    excluded = list(relative.absolute) if relative else []
    enabled = relative is not None
    return [_step("relative_actions_processor", enabled=enabled, exclude_joints=excluded, action_names=names)]


def _normalizer(registry_name: str, policy: Policy, features: dict[str, Any]) -> Step:
    return _step(registry_name, eps=EPS, features=features, norm_map=policy.norm_map)


def _action_tokenizer(policy: Policy) -> Step:
    return _step(
        "action_tokenizer_processor",
        trust_remote_code=True,
        max_action_tokens=256,
        action_tokenizer_name=action_tokenizer(policy.version),
    )
