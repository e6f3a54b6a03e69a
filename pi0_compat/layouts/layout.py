"""The layouts a checkpoint can have, and a path whose layout is known."""

import enum
from pathlib import Path
from typing import NamedTuple

ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


class Layout(enum.StrEnum):
    """How a checkpoint is stored."""

    OPENPI = "openpi"  # orbax, a tree of {"params": ...}
    TRAIN_STATE = "train-state"  # orbax, what training needs beside the parameters
    GEMMA_FLAX = "gemma-flax"  # orbax, layers side by side
    PALIGEMMA_NPZ = "paligemma-npz"
    OPENPI_PYTORCH = "openpi-pytorch"
    HUGGING_FACE = "huggingface"
    PEFT = "peft"


class Recognised(NamedTuple):
    """A checkpoint whose layout is known; nothing of it has been read but names.

    Attributes:
      layout: how it is stored.
      path: the folder or file that holds the arrays.
      step: the folder of the training step that it belongs to, if it does.
    """

    layout: Layout
    path: Path
    step: Path | None = None
