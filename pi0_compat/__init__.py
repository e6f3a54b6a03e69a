"""Read, check, convert and load checkpoints of pi0, pi0.5 and pi0-FAST, and fine-tune them with LoRA in flax nnx.

Parameters travel as ``Params``: a flat ``dict`` from slash paths (openpi's names, without the ``value`` suffix) to
arrays. Names are imported when they are first used, so what works on files needs no jax; the model, loading into it and
training come with ``pip install 'pi0-compat[jax]'``, ``gs://`` URLs with ``[gcs]``, Parquet with ``[parquet]``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pi0_compat.extras import extra_of, install_line

if TYPE_CHECKING:
    from pi0_compat.checkpoints.check import check_checkpoint
    from pi0_compat.checkpoints.convert import convert_checkpoint
    from pi0_compat.checkpoints.diff import diff_checkpoints
    from pi0_compat.checkpoints.inspect import inspect_checkpoint
    from pi0_compat.checkpoints.lora import attach_checkpoint, extract_checkpoint, fold_checkpoint
    from pi0_compat.errors import CheckpointError, LoadError
    from pi0_compat.layouts.lerobot.options import LerobotOptions
    from pi0_compat.layouts.orbax.restore import restore_params
    from pi0_compat.layouts.orbax.save import save_params
    from pi0_compat.loading.loaders import (
        CheckpointWeightLoader,
        GemmaWeightLoader,
        HuggingFaceWeightLoader,
        NoOpWeightLoader,
        OpenpiPyTorchWeightLoader,
        PaliGemmaWeightLoader,
        PeftWeightLoader,
    )
    from pi0_compat.loading.report import LoadReport
    from pi0_compat.lora.fold import fold, unfold
    from pi0_compat.lora.params import extract, initialize_lora_parameters, merge_parameters
    from pi0_compat.model.config import Pi0Config
    from pi0_compat.model.named import named_model
    from pi0_compat.model.pi0 import Observation, Pi0
    from pi0_compat.model.pi0_fast import Pi0Fast
    from pi0_compat.model.pi0_spec import Pi0Spec
    from pi0_compat.norm_stats.compute import compute_norm_stats
    from pi0_compat.norm_stats.openpi_files import read_norm_stats, write_norm_stats
    from pi0_compat.norm_stats.parquet import norm_stats_of_parquet
    from pi0_compat.norm_stats.stats import Stats
    from pi0_compat.planning.plan import plan
    from pi0_compat.training.configs import TrainConfig, get_config
    from pi0_compat.training.runs import open_run, resume_train_state, save_train_state
    from pi0_compat.training.step import TrainState, init_train_state, make_train_step, trainable_paths

# Public name -> the module that defines it.
_HOMES = {
    "CheckpointError": "pi0_compat.errors",
    "CheckpointWeightLoader": "pi0_compat.loading.loaders",
    "GemmaWeightLoader": "pi0_compat.loading.loaders",
    "HuggingFaceWeightLoader": "pi0_compat.loading.loaders",
    "LerobotOptions": "pi0_compat.layouts.lerobot.options",
    "LoadError": "pi0_compat.errors",
    "LoadReport": "pi0_compat.loading.report",
    "NoOpWeightLoader": "pi0_compat.loading.loaders",
    "Observation": "pi0_compat.model.pi0",
    "OpenpiPyTorchWeightLoader": "pi0_compat.loading.loaders",
    "PaliGemmaWeightLoader": "pi0_compat.loading.loaders",
    "PeftWeightLoader": "pi0_compat.loading.loaders",
    "Pi0": "pi0_compat.model.pi0",
    "Pi0Config": "pi0_compat.model.config",
    "Pi0Fast": "pi0_compat.model.pi0_fast",
    "Pi0Spec": "pi0_compat.model.pi0_spec",
    "Stats": "pi0_compat.norm_stats.stats",
    "TrainConfig": "pi0_compat.training.configs",
    "TrainState": "pi0_compat.training.step",
    "attach_checkpoint": "pi0_compat.checkpoints.lora",
    "check_checkpoint": "pi0_compat.checkpoints.check",
    "compute_norm_stats": "pi0_compat.norm_stats.compute",
    "convert_checkpoint": "pi0_compat.checkpoints.convert",
    "diff_checkpoints": "pi0_compat.checkpoints.diff",
    "extract": "pi0_compat.lora.params",
    "extract_checkpoint": "pi0_compat.checkpoints.lora",
    "fold": "pi0_compat.lora.fold",
    "fold_checkpoint": "pi0_compat.checkpoints.lora",
    "get_config": "pi0_compat.training.configs",
    "init_train_state": "pi0_compat.training.step",
    "initialize_lora_parameters": "pi0_compat.lora.params",
    "inspect_checkpoint": "pi0_compat.checkpoints.inspect",
    "make_train_step": "pi0_compat.training.step",
    "merge_parameters": "pi0_compat.lora.params",
    "named_model": "pi0_compat.model.named",
    "norm_stats_of_parquet": "pi0_compat.norm_stats.parquet",
    "open_run": "pi0_compat.training.runs",
    "plan": "pi0_compat.planning.plan",
    "read_norm_stats": "pi0_compat.norm_stats.openpi_files",
    "restore_params": "pi0_compat.layouts.orbax.restore",
    "resume_train_state": "pi0_compat.training.runs",
    "save_params": "pi0_compat.layouts.orbax.save",
    "save_train_state": "pi0_compat.training.runs",
    "trainable_paths": "pi0_compat.training.step",
    "unfold": "pi0_compat.lora.fold",
    "write_norm_stats": "pi0_compat.norm_stats.openpi_files",
}

__all__ = [
    "CheckpointError",
    "CheckpointWeightLoader",
    "GemmaWeightLoader",
    "HuggingFaceWeightLoader",
    "LerobotOptions",
    "LoadError",
    "LoadReport",
    "NoOpWeightLoader",
    "Observation",
    "OpenpiPyTorchWeightLoader",
    "PaliGemmaWeightLoader",
    "PeftWeightLoader",
    "Pi0",
    "Pi0Config",
    "Pi0Fast",
    "Pi0Spec",
    "Stats",
    "TrainConfig",
    "TrainState",
    "attach_checkpoint",
    "check_checkpoint",
    "compute_norm_stats",
    "convert_checkpoint",
    "diff_checkpoints",
    "extract",
    "extract_checkpoint",
    "fold",
    "fold_checkpoint",
    "get_config",
    "init_train_state",
    "initialize_lora_parameters",
    "inspect_checkpoint",
    "make_train_step",
    "merge_parameters",
    "named_model",
    "norm_stats_of_parquet",
    "open_run",
    "plan",
    "read_norm_stats",
    "restore_params",
    "resume_train_state",
    "save_params",
    "save_train_state",
    "trainable_paths",
    "unfold",
    "write_norm_stats",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module.

    Raises:
      AttributeError: there is no such name.
      ImportError: the name needs a package that an extra brings; the message has the line that installs it.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if (extra := extra_of(error.name)) is None:
            raise
        raise ImportError(
            f"{__name__}.{name} needs {error.name}, which the base install does not have; install it: "
            f"{install_line(extra)}",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    # Without what this module imports for itself: completion offers public names only.
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
