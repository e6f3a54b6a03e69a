"""The places of parameters in openpi's PyTorch model, and in lerobot's copy of it, which has a pi0-FAST too."""

from typing import Any

from ._tensors import LLM, Rules, dense, gemma_rules, paligemma_rules

PROJECTIONS = {
    "pi0": ("action_in_proj", "action_out_proj", "state_proj", "action_time_mlp_in", "action_time_mlp_out"),
    "pi05": ("action_in_proj", "action_out_proj", "time_mlp_in", "time_mlp_out"),
    "pi0_fast": (),
}


def policy_rules(spec: Any, root: str) -> Rules:
    """Return the rule of every parameter of a model without adapters; tensors' names start with ``root``."""
    experts = f"{root}paligemma_with_expert"
    rules = paligemma_rules(spec, f"{experts}.paligemma.model.")
    if spec["family"] == "pi0_fast":
        return rules
    rules |= gemma_rules(spec["action_expert"], f"{experts}.gemma_expert.model", "_1")
    if spec["family"] == "pi05":
        rules = {path: rule for path, rule in rules.items() if not path.endswith("_norm_1/scale")}
        rules |= _adarms_rules(spec["action_expert"]["depth"], f"{experts}.gemma_expert.model")
    for name in PROJECTIONS[spec["family"]]:
        rules |= dense(name, f"{root}{name}")
    return rules


def _adarms_rules(depth: int, root: str) -> Rules:
    rules = dense(f"{LLM}/final_norm_1/Dense_0", f"{root}.norm.dense")
    for ours, theirs in (("pre_attention_norm", "input_layernorm"), ("pre_ffw_norm", "post_attention_layernorm")):
        rules |= dense(f"{LLM}/layers/{ours}_1/Dense_0", f"{root}.layers.{{}}.{theirs}.dense", depth)
    return rules
