"""A PEFT adapter of transformers' PI0 as openpi's adapters: what ``peft_writing`` writes, backwards.

openpi has less room than PEFT: an adapter for each head where PEFT's may mix heads, one rank and alpha for each site of
an expert. What does not fit is refused. Behind attention openpi sums over heads, so the first one gets all there is.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from suite.reference import lora
from suite.reference.adapters import adapter_of, lora_of, spec_among
from suite.reference.errors import CheckpointError, LoadError
from suite.reference.layouts.peft_writing import CONFIG_FILE, WEIGHTS_FILE, modules_of
from suite.reference.layouts.safetensors_file import SafetensorsFile, open_safetensors
from suite.reference.params import Params, is_adapter
from suite.reference.pi0_config import Pi0Config

# alpha / rank of PEFT's numbers, which are openpi's times the heads, is a rounding off.
_SCALE_RTOL = 1e-6


class _Settings(NamedTuple):
    """What ``adapter_config.json`` says."""

    path: Path
    values: dict[str, Any]

    def scale(self, module: str, rank: int) -> float:
        """What multiplies the product of a module's matrices."""
        alpha = self._of("alpha_pattern", module, self.values.get("lora_alpha", 8))
        return float(alpha) / (math.sqrt(rank) if self.values.get("use_rslora") else rank)

    def _of(self, patterns: str, module: str, default: Any) -> Any:
        """As PEFT has it: the first pattern that is the module, or its end."""
        found = self.values.get(patterns) or {}
        return next((x for key, x in found.items() if re.fullmatch(rf"(.*\.)?({key})", module)), default)


def read_peft(folder: Path, model: Pi0Config) -> Params:
    """The adapters of a folder, for a model that has them.

    Raises:
      CheckpointError: there is no readable adapter in the folder.
      LoadError: a module has none, or one of another shape, scale or kind than the model's, or there are more modules.
    """
    try:
        settings = _Settings(folder, dict(json.loads((folder / CONFIG_FILE).read_text())))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: is no settings of a PEFT adapter ({error})") from error
    shapes = {path: x.shape for path, x in model.param_spec().items() if is_adapter(path)}
    with open_safetensors(folder / WEIGHTS_FILE) as file:
        read: set[str] = set()
        params = {path: _read(file, path, shape, model, settings, read) for path, shape in shapes.items()}
        if left := sorted(file.leaves.keys() - read):
            raise LoadError(f"{file.path}: {len(left)} tensors have no place in the model, for example {left[0]}")
    return params


def _read(
    file: SafetensorsFile, path: str, shape: tuple[int, ...], model: Pi0Config, settings: _Settings, read: set[str]
) -> np.ndarray:
    """One of openpi's matrices, put together from its modules' in all layers."""
    adapter = adapter_of(path)
    spec = spec_among(lora_of(model), adapter) if adapter else None
    assert adapter
    assert spec
    matrix = "A" if path == adapter.a else "B"
    params = np.empty(shape, np.float32)
    for module, index in modules_of(adapter, shape[0]):
        name = f"base_model.model.{module}.lora_{matrix}.weight"
        if name not in file.leaves:
            raise LoadError(f"{file.path}: {name} (of {path}): expected, found nothing")
        read.add(name)
        tensor = np.asarray(file.read(name), np.float32)
        place = params[index]
        rank = tensor.shape[0 if matrix == "A" else 1]
        if not math.isclose(settings.scale(module, rank), spec.scale, rel_tol=_SCALE_RTOL):
            found = settings.scale(module, rank)
            raise LoadError(f"{settings.path}: the scale of {module} is {found}, the model has {spec.scale}")
        try:
            place[...] = _openpi(adapter.site, adapter.name, matrix, tensor, place.shape)
        except ValueError as error:
            raise LoadError(f"{file.path}: {name} does not fit {path}: {error}") from error
    return params


def _openpi(site: lora.Site, name: str, matrix: str, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A module's matrix as openpi's of this shape."""
    if site.group == "ffn":
        return tensor.T
    if name == "attn_vec_einsum":
        if matrix == "A":
            return tensor.T.reshape(shape)
        first = np.zeros(shape, tensor.dtype)
        first[0] = tensor.T
        return first
    if matrix == "A":
        heads, width, rank = shape
        return tensor.reshape(heads, rank, width).transpose(0, 2, 1)
    heads, rank, dim = shape
    parted = tensor.reshape(heads, dim, heads, rank)
    blocks = np.stack([parted[head, :, head].T for head in range(heads)])
    if np.count_nonzero(blocks) != np.count_nonzero(tensor):
        raise ValueError("it mixes heads, for which openpi has no place")
    return blocks
