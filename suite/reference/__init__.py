"""The reference implementation: pi0 and pi05 in flax nnx, their checkpoints, weight loaders and LoRA fine-tuning.

It imports nothing else of this project, so it can be read, copied and used on its own. Parameters travel as ``Params``:
a flat ``dict`` from slash paths (openpi's names, without the ``value`` suffix) to arrays.
"""

from suite.reference.adapters import (
    extract,
    fold,
    fold_and_report,
    initialize_lora_parameters,
    merge_parameters,
    unfold,
)
from suite.reference.checkpoints import restore_params, save_params
from suite.reference.configs import TrainConfig, get_config
from suite.reference.convert import convert_checkpoint
from suite.reference.errors import CheckpointError, LoadError
from suite.reference.load_report import LoadReport
from suite.reference.lora_checkpoints import attach_checkpoint, extract_checkpoint, fold_checkpoint
from suite.reference.pi0 import Observation, Pi0
from suite.reference.pi0_config import Pi0Config
from suite.reference.train import TrainState, init_train_state, make_train_step, trainable_paths
from suite.reference.train_checkpoints import open_run, resume_train_state, save_train_state
from suite.reference.weight_loaders import (
    CheckpointWeightLoader,
    GemmaWeightLoader,
    HuggingFaceWeightLoader,
    NoOpWeightLoader,
    OpenpiPyTorchWeightLoader,
    PaliGemmaWeightLoader,
    PeftWeightLoader,
)

__all__ = [
    "CheckpointError",
    "CheckpointWeightLoader",
    "GemmaWeightLoader",
    "HuggingFaceWeightLoader",
    "LoadError",
    "LoadReport",
    "NoOpWeightLoader",
    "Observation",
    "OpenpiPyTorchWeightLoader",
    "PaliGemmaWeightLoader",
    "PeftWeightLoader",
    "Pi0",
    "Pi0Config",
    "TrainConfig",
    "TrainState",
    "attach_checkpoint",
    "convert_checkpoint",
    "extract",
    "extract_checkpoint",
    "fold",
    "fold_and_report",
    "fold_checkpoint",
    "get_config",
    "init_train_state",
    "initialize_lora_parameters",
    "make_train_step",
    "merge_parameters",
    "open_run",
    "restore_params",
    "resume_train_state",
    "save_params",
    "save_train_state",
    "trainable_paths",
    "unfold",
]
