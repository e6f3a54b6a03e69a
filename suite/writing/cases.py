"""What contracts say often: where a load comes from, how a training goes, what an adapter is called."""

import hashlib
import re
from pathlib import Path
from typing import Any

# The optimizer of the golden cases: three steps of it move every trainable parameter visibly.
OPTIMIZER: dict[str, Any] = {
    "name": "adamw",
    "b1": 0.9,
    "b2": 0.95,
    "eps": 1e-8,
    "weight_decay": 1e-10,
    "clip": 1.0,
    "schedule": {"warmup_steps": 1, "peak_lr": 0.01, "decay_steps": 10, "decay_lr": 0.001},
}


# An error that confuses nobody says both, each as a word of its own.
BOTH_FAMILIES = (re.compile(r"\bpi0\b"), re.compile(r"\bpi05\b"))

# The kind of source that each stored layout is to a subject.
SOURCE_KINDS = {
    "openpi_orbax": "checkpoint",
    "paligemma_npz": "paligemma",
    "hugging_face": "hugging_face",
    "gemma_flax": "gemma_flax",
    "openpi_pytorch": "openpi_pytorch",
}


def from_checkpoint(path: str | Path) -> dict[str, str]:
    """A load from a pi0 checkpoint."""
    return {"kind": "checkpoint", "path": str(path)}


def from_paligemma(path: str | Path) -> dict[str, str]:
    """A load from an official PaliGemma npz."""
    return {"kind": "paligemma", "path": str(path)}


def from_hugging_face(path: str | Path) -> dict[str, str]:
    """A load from Hugging Face's PaliGemma."""
    return {"kind": "hugging_face", "path": str(path)}


# The two options that go wrong together: bfloat16 weights under a moving average (docs/bugs.md#b4), with openpi's own
# decay: in bfloat16 0.99 and 0.01 do not add up to one, as 0.75 and 0.25 do. Shared, so that one program is compiled.
LEAN: dict[str, Any] = {"frozen_dtype": "bfloat16", "ema_decay": 0.99}


def training_options(**changes: Any) -> dict[str, Any]:
    """Options of a training: everything in float32, no moving average, unless changed."""
    return {
        "optimizer": OPTIMIZER,
        "seed": 0,
        "frozen_dtype": "float32",
        "ema_decay": None,
        "shard_above": None,
    } | changes


def is_adapter(path: str) -> bool:
    """Whether a path is a LoRA matrix, by openpi's names."""
    return path.endswith(("lora_a", "lora_b"))


def digests(folder: str | Path) -> dict[str, str]:
    """The sha256 of every file below a folder."""
    files = (file for file in Path(folder).rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}
