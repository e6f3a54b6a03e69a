"""The layouts that a checkpoint can have, and a checkpoint whose layout is known."""

import enum
from pathlib import Path
from typing import NamedTuple

ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


class Layout(enum.StrEnum):
    """How a checkpoint is stored."""

    OPENPI = "openpi"  # orbax, a tree of {"params": ...}
    TRAIN_STATE = "train_state"  # orbax, the state of a training beside its parameters
    GEMMA_FLAX = "gemma_flax"  # orbax, layers side by side
    PALIGEMMA_NPZ = "paligemma_npz"
    OPENPI_PYTORCH = "openpi_pytorch"
    LEROBOT = "lerobot"  # a policy: openpi's PyTorch names one level deeper
    HUGGING_FACE = "hugging_face"
    PEFT = "peft"
    UNKNOWN = "unknown"  # arrays that are no part of a pi0


class Detected(NamedTuple):
    """A local checkpoint of a known layout; nothing but names has been read. ``detect`` makes it.

    Attributes:
      layout: how the checkpoint is stored.
      path: the folder or file that holds the arrays.
      step: the folder of the training step that the checkpoint belongs to; None if it is not part of a run.
      root: the local file or folder that the caller named, at, above or (an adapter file) below ``path``.
    """

    layout: Layout
    path: Path
    step: Path | None
    root: Path
