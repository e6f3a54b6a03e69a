"""openpi's adapters as lerobot's: PEFT's files, on the modules of its policies, beside a policy's config and pipelines.

lerobot loads the policy that ``base_model_name_or_path`` names, and puts the adapters on it (``policies/factory.py``).
"""

import json
from pathlib import Path

from pi0_compat.layouts.lerobot.config import config_of
from pi0_compat.layouts.lerobot.pipelines import write_pipelines
from pi0_compat.layouts.lerobot.policy import Policy
from pi0_compat.layouts.torch.peft import write_peft
from pi0_compat.layouts.torch.safetensors_folder import CONFIG_FILE
from pi0_compat.lora.sites import ExpertLoRAs
from pi0_compat.paths import TORCH_ROOT
from pi0_compat.storage.stream import Source

# The modules of PaliGemma's language model and of the action expert.
ROOTS = (f"model.{TORCH_ROOT}.paligemma.model.language_model", f"model.{TORCH_ROOT}.gemma_expert.model")


def write_adapters(source: Source, folder: Path, experts: ExpertLoRAs, policy: Policy) -> None:
    """Write adapters as a policy folder of lerobot's.

    Args:
      source: the adapters.
      folder: the folder to make.
      experts: rank and alpha of the adapters of both experts.
      policy: what it has besides adapters; ``base`` is the policy that they go on.

    Raises:
      LoadError: the alpha of an adapter is not known.
      CheckpointError: a tensor that is read back is not the one written.
    """
    write_peft(source, folder, experts, roots=ROOTS, base=policy.base)
    (folder / CONFIG_FILE).write_text(json.dumps(config_of(policy), indent=2) + "\n")
    write_pipelines(policy, folder)
