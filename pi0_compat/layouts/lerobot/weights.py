"""The weights of lerobot's policies: openpi's PyTorch names one level deeper, in the one file that lerobot reads.

lerobot has PaliGemma's token table twice, untied: as ``embed_tokens`` and as ``lm_head``; both are written. The action
expert has no token table, but an ``lm_head`` that nothing uses, which is written as zeros. lerobot looks for
``model.safetensors`` and nothing else (``modeling_pi0.py:820`` in 0.6.1); of shards it makes a policy of fresh weights.
"""

from pathlib import Path

from pi0_compat.layouts.lerobot.config import config_of
from pi0_compat.layouts.lerobot.pipelines import write_pipelines
from pi0_compat.layouts.lerobot.policy import Policy
from pi0_compat.layouts.torch import openpi as openpi_pytorch
from pi0_compat.layouts.torch.rules import Rule
from pi0_compat.layouts.torch.write_folder import write_folder
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.params import Leaf
from pi0_compat.paths import TOKEN_TABLE, UNUSED_HEAD
from pi0_compat.storage.stream import Source

ROOT = "model."


def write_policy(source: Source, folder: Path, policy: Policy) -> None:
    """Write a policy folder: config, weights and pipelines.

    Args:
      source: the parameters of a whole model, without adapters.
      folder: the folder to make.
      policy: what it has besides weights.
    """
    model, table = policy.model, source.leaves[TOKEN_TABLE]
    unused = {}
    if model.action_expert:
        unused[ROOT + UNUSED_HEAD] = Leaf((table.shape[0], model.action_expert.width), table.dtype)
    write_folder(folder, source, rules(model), config_of(policy), unused)
    write_pipelines(policy, folder)


def rules(model: Pi0Spec) -> list[Rule]:
    """Return where every base parameter of a model is in lerobot's policy, the token table twice."""
    found = [*openpi_pytorch.rules(model), Rule(TOKEN_TABLE, "VD->VD", (openpi_pytorch.TIED_TABLE,))]
    return [rule._replace(names=tuple(ROOT + name for name in rule.names)) for rule in found]
