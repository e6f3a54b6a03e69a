"""Call transformers' ``from_pretrained`` on a folder, and check its loading report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig


def load_model(
    model: Any,
    path: str,
    config: Any,
    unread: tuple[str, ...],
    file_name: Callable[[str], str],
    dtype: Any = torch.float32,
) -> Any:
    """Load a model from the files at a path.

    A missing or an unexpected tensor does not stop ``from_pretrained``: it logs a warning with the names, and lists
    them in ``output_loading_info``. A user sees the warning, so it counts as an error.

    Args:
      model: the class of the model.
      path: a folder, or the only file in it; ``from_pretrained`` takes the folder.
      config: the model's config. The suite's folders have no config.json of transformers, so the configs are passed,
        including an empty one for text generation. None for a folder that has its own.
      unread: tensors that the model has but never reads; the file may lack them.
      file_name: returns the name in the file of a tensor of the model.
      dtype: what the tensors are cast to; "auto", which is the default of ``from_pretrained``, keeps the file's.
    """
    folder = Path(path).parent if path.endswith(".safetensors") else path
    configs = {} if config is None else {"config": config, "generation_config": GenerationConfig()}
    loaded, info = model.from_pretrained(folder, **configs, dtype=dtype, output_loading_info=True)
    report = {kind: sorted(file_name(str(name)) for name in names) for kind, names in info.items()}
    report["missing_keys"] = [name for name in report["missing_keys"] if name not in unread]
    if found := {kind: names for kind, names in report.items() if names}:
        raise ValueError(f"{path}: {found}")
    return loaded
