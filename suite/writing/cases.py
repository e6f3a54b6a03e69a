"""Values and small helpers that many contracts use: sources of a load, training options, path rules."""

import hashlib
import re
from pathlib import Path
from typing import Any

# The optimizer of the golden cases: its first three steps change every trainable parameter measurably.
OPTIMIZER: dict[str, Any] = {
    "name": "adamw",
    "b1": 0.9,
    "b2": 0.95,
    "eps": 1e-8,
    "weight_decay": 1e-10,
    "clip": 1.0,
    "schedule": {"warmup_steps": 1, "peak_lr": 0.01, "decay_steps": 10, "decay_lr": 0.001},
}


# A clear error names both families, each as a separate word.
BOTH_FAMILIES = (re.compile(r"\bpi0\b"), re.compile(r"\bpi05\b"))


def from_checkpoint(path: str | Path) -> dict[str, str]:
    """Return a load source for a pi0 checkpoint."""
    return {"kind": "openpi", "path": str(path)}


def from_paligemma(path: str | Path) -> dict[str, str]:
    """Return a load source for an official PaliGemma npz."""
    return {"kind": "paligemma_npz", "path": str(path)}


def from_hugging_face(path: str | Path) -> dict[str, str]:
    """Return a load source for Hugging Face's PaliGemma."""
    return {"kind": "hugging_face", "path": str(path)}


# Two options that fail in combination: bfloat16 weights under a moving average (docs/bugs.md#b4), with openpi's decay,
# because 0.99 and 0.01 do not add up to one in bfloat16, unlike 0.75 and 0.25. Shared by contracts so that the training
# step is compiled once.
LEAN: dict[str, Any] = {"frozen_dtype": "bfloat16", "ema_decay": 0.99}


def training_options(**changes: Any) -> dict[str, Any]:
    """Return training options, by default with float32 everywhere and no moving average.

    Args:
      changes: options to add or replace.
    """
    return {
        "optimizer": OPTIMIZER,
        "seed": 0,
        "frozen_dtype": "float32",
        "ema_decay": None,
        "shard_above": None,
    } | changes


def is_adapter(path: str) -> bool:
    """Return whether a path is a LoRA matrix under openpi's names."""
    return path.endswith(("lora_a", "lora_b"))


def digests(folder: str | Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by relative path."""
    files = (file for file in Path(folder).rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}
