"""``from_pretrained`` of transformers: of a folder, with its loading report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig


def load_model(model: Any, path: str, config: Any, unread: tuple[str, ...], file_name: Callable[[str], str]) -> Any:
    """A model of the files at a path.

    A missing or an unexpected tensor does not stop ``from_pretrained``: it logs a warning with the names, and lists
    them in the ``output_loading_info`` that is asked for here. A user is told by the call, so it counts as an error.

    Args:
      model: the class.
      path: a folder, or the one file in it: ``from_pretrained`` takes the folder.
      config: the model's config. Folders of the suite have no config.json of transformers, so what would be read from
        there is given, the empty config of text generation too.
      unread: tensors that the model has and never reads, so that a file need not have them.
      file_name: what a tensor of the model is called in the file.
    """
    folder = Path(path).parent if path.endswith(".safetensors") else path
    loaded, info = model.from_pretrained(
        folder, config=config, generation_config=GenerationConfig(), dtype=torch.float32, output_loading_info=True
    )
    report = {kind: sorted(file_name(str(name)) for name in names) for kind, names in info.items()}
    report["missing_keys"] = [name for name in report["missing_keys"] if name not in unread]
    if found := {kind: names for kind, names in report.items() if names}:
        raise ValueError(f"{path}: {found}")
    return loaded
