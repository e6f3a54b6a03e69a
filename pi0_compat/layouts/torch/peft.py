"""Write openpi's adapters as a PEFT adapter of transformers' PI0, for ``PeftModel.from_pretrained``.

PEFT has two matrices for a Linear: ``lora_A`` [rank, inputs] and ``lora_B`` [outputs, rank]. Where openpi has a pair
for each head (the inputs of attention), PEFT's rank is the sum of theirs, and ``lora_B`` is zero outside of one block a
head. After attention openpi sums over the heads in both products, so the rank stays and ``lora_B`` is the sum over the
heads. Each module has its own rank and alpha; alpha is chosen so that alpha / rank is openpi's scale, rslora's
too, so PEFT's own option for it is not used.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from pi0_compat.layouts.torch.peft_names import EXPERT_ROOTS, PREFIX, modules_of
from pi0_compat.layouts.torch.safetensors_file import open_safetensors, same_bits, write_safetensors
from pi0_compat.lora.sites import Adapter, ExpertLoRAs, adapters_in, spec_among
from pi0_compat.params import Params, leaves_of
from pi0_compat.paths import is_adapter
from pi0_compat.storage.stream import Source, whole


class _Module(NamedTuple):
    """The modules of one name, one a layer, whose adapters have one rank."""

    name: str
    rank: int
    alpha: float
    tensors: Params


def write_peft(
    source: Source,
    folder: Path,
    experts: ExpertLoRAs,
    *,
    roots: tuple[str, ...] = EXPERT_ROOTS,
    base: str | None = None,
) -> None:
    """Write the adapters of a checkpoint, and read them back.

    Args:
      source: the checkpoint; everything but adapters is ignored.
      folder: the folder to make.
      experts: rank and alpha of the adapters of both experts.
      roots: the modules of both experts in the model that the adapters are for; by default transformers' PI0.
      base: the path or the repository of the model that the adapters go on.

    Raises:
      LoadError: there are no adapters, or the alpha of one is not known.
      CheckpointError: a tensor that is read back is not the one written.
    """
    folder.mkdir()
    adapters = adapters_in(filter(is_adapter, source.leaves))
    modules = [module for adapter in adapters for module in _modules(source, adapter, experts, roots)]
    tensors = {name: tensor for module in modules for name, tensor in module.tensors.items()}
    tensors = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    write_safetensors(folder / ADAPTER_WEIGHTS, leaves_of(tensors), tensors.items(), metadata={"format": "pt"})
    (folder / ADAPTER_CONFIG).write_text(json.dumps(_config(modules, base), indent=2) + "\n")
    with open_safetensors(folder / ADAPTER_WEIGHTS) as file:
        if wrong := [name for name, tensor in tensors.items() if not same_bits(file.read(name), tensor)]:
            raise CheckpointError(f"{folder}: {wrong[0]} that is read back is not what was meant; nothing was kept")


def _modules(source: Source, adapter: Adapter, experts: ExpertLoRAs, roots: tuple[str, ...]) -> Iterator[_Module]:
    spec = spec_among(experts, adapter)
    if spec is None:
        raise LoadError(
            f"{source.path}: the alpha of {adapter.a} is not known: the checkpoint does not record it, and no config "
            "with an adapter there was passed; pass the config that it was trained with (--config)"
        )
    a, b = (whole(source.slabs(path)) for path in (adapter.a, adapter.b))
    found: dict[str, _Module] = {}
    for module, index in modules_of(adapter, len(a), roots):
        lora_a, lora_b = _matrices(adapter, a[index], b[index])
        pattern = re.sub(r"(?<=\\.layers\\.)\d+", lambda _: r"\d+", re.escape(module))
        of_all_layers = found.setdefault(pattern, _Module(pattern, len(lora_a), spec.scale * len(lora_a), {}))
        of_all_layers.tensors[f"{PREFIX}{module}.lora_A.weight"] = lora_a
        of_all_layers.tensors[f"{PREFIX}{module}.lora_B.weight"] = lora_b
    yield from found.values()


def _matrices(adapter: Adapter, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lora_A and lora_B of one layer's module."""
    if adapter.site.group == "ffn":
        return a.T, b.T
    if adapter.name == "attn_vec_einsum":
        heads_and_dims = a.reshape(-1, a.shape[-1])
        # Summed in float64 and rounded once; half precision would lose what heads have in common.
        total = b.sum(axis=0, dtype=np.float64).astype(np.promote_types(b.dtype, np.float32))
        return heads_and_dims.T, total.T
    heads, rank, dim = b.shape
    blocks = np.zeros((heads, dim, heads, rank), b.dtype)
    for head in range(heads):
        blocks[head, :, head] = b[head].T
    return np.concatenate([matrix.T for matrix in a]), blocks.reshape(heads * dim, heads * rank)


def _config(modules: list[_Module], base: str | None) -> dict[str, Any]:
    """Return PEFT's config: the modules by regular expressions, each with its own rank and alpha."""
    largest = max(modules, key=lambda module: module.rank)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": largest.rank,
        "lora_alpha": largest.alpha,
        "rank_pattern": {module.name: module.rank for module in modules},
        "alpha_pattern": {module.name: module.alpha for module in modules},
        "target_modules": "|".join(module.name for module in modules),
        "use_rslora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
    }
