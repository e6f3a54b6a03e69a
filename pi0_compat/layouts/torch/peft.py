"""Read and write openpi's adapters as a PEFT adapter of transformers' PI0, for ``PeftModel.from_pretrained``.

PEFT has two matrices for a Linear: ``lora_A`` [rank, inputs] and ``lora_B`` [outputs, rank]. Where openpi has a pair
for each head (the inputs of attention), PEFT's rank is the sum of theirs, and ``lora_B`` is zero outside of one block a
head. After attention openpi sums over the heads in both products, so the rank stays and ``lora_B`` is the sum over the
heads. Each module has its own rank and alpha; alpha is chosen so that alpha / rank is openpi's scale, rslora's
too, so PEFT's own option for it is not used.
"""

import functools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from pi0_compat.layouts.torch.safetensors_file import (
    FLOATS,
    SafetensorsFile,
    open_safetensors,
    same_bits,
    write_safetensors,
)
from pi0_compat.lora.sites import Adapter, ExpertLoRAs, adapter_of, adapters_in, lora_of, spec_among
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.sites import Site
from pi0_compat.params import Leaf, Params, leaves_of
from pi0_compat.paths import expert_of, is_adapter
from pi0_compat.storage.stream import Source, whole
from pi0_compat.text import shorten

# PEFT's alpha and rank are openpi's times the number of heads; their quotient may differ by a rounding.
_SCALE_RTOL = 1e-6


# PEFT wraps a model twice.
_PREFIX = "base_model.model."
_EXPERTS = ("model.vlm.language_model", "model.dit")
_MODULES = {
    "q_einsum": ("self_attn.q_proj",),
    "kv_einsum": ("self_attn.k_proj", "self_attn.v_proj"),
    "qkv_einsum": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn_vec_einsum": ("self_attn.o_proj",),
    "gating_einsum": ("mlp.gate_proj", "mlp.up_proj"),
    "linear": ("mlp.down_proj",),
}


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
    roots: tuple[str, ...] = _EXPERTS,
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
        of_all_layers.tensors[f"{_PREFIX}{module}.lora_A.weight"] = lora_a
        of_all_layers.tensors[f"{_PREFIX}{module}.lora_B.weight"] = lora_b
    yield from found.values()


def modules_of(
    adapter: Adapter, depth: int, roots: tuple[str, ...] = _EXPERTS
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the modules that an adapter is on, and the index of each one's part in its arrays."""
    root, names = roots[expert_of(adapter.weight) or 0], _MODULES[adapter.name]
    for layer in range(depth):
        for part, name in enumerate(names):
            # The projections of a fused one are stacked along the second axis.
            yield f"{root}.layers.{layer}.{name}", (layer, part) if len(names) > 1 else (layer,)


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


class _Settings(NamedTuple):
    """The content of ``adapter_config.json``."""

    path: Path
    values: dict[str, Any]

    def scale(self, module: str, rank: int) -> float:
        """Return the factor of the product of a module's matrices."""
        alpha = self._of("alpha_pattern", module, self.values.get("lora_alpha", 8))
        return float(alpha) / (math.sqrt(rank) if self.values.get("use_rslora") else rank)

    def _of(self, patterns: str, module: str, default: Any) -> Any:
        """Look a module up as PEFT does: the first pattern that matches the module, or its end."""
        found = self.values.get(patterns) or {}
        return next((x for key, x in found.items() if re.fullmatch(rf"(.*\.)?({key})", module)), default)


def read_peft(folder: Path, model: Pi0Spec) -> tuple[Params, dict[str, Leaf]]:
    """Return the adapters of a folder, for a model that has them, and in what dtype they are stored.

    Args:
      folder: a local folder with ``adapter_model.safetensors`` and ``adapter_config.json``.
      model: the model with adapters.

    Returns:
      path -> float32 array of every adapter of the model; path -> its shape, and the widest dtype of its layers.

    Raises:
      CheckpointError: there is no readable adapter in the folder.
      LoadError: a module has no adapter, or one of another shape, scale or kind than the model's; or there are more
        modules.
    """
    try:
        settings = _Settings(folder, dict(json.loads((folder / ADAPTER_CONFIG).read_text())))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / ADAPTER_CONFIG}: is no settings of a PEFT adapter ({error})") from error
    shapes = {path: x.shape for path, x in model.param_spec().items() if is_adapter(path)}
    with open_safetensors(folder / ADAPTER_WEIGHTS) as file:
        read: set[str] = set()
        params, wrong = {}, []
        for path, shape in shapes.items():
            try:
                params[path] = _read(file, path, shape, model, settings, read)
            except LoadError as error:
                wrong.append(str(error))
        if wrong:
            raise LoadError("\n".join(shorten(wrong)))
        if left := sorted(file.leaves.keys() - read):
            raise LoadError(f"{file.path}: {len(left)} tensors have no place in the model, for example {left[0]}")
        return params, {path: _stored(file, path, shape) for path, shape in shapes.items()}


def _stored(file: SafetensorsFile, path: str, shape: tuple[int, ...]) -> Leaf:
    """Return a matrix of openpi's as it is stored: in several dtypes, the widest."""
    adapter = adapter_of(path)
    assert adapter
    matrix = "A" if path == adapter.a else "B"
    dtypes = [file.leaves[name].dtype for _, name, _ in _tensors(adapter, matrix, shape[0])]
    return Leaf(shape, functools.reduce(np.promote_types, dtypes))


def _tensors(adapter: Adapter, matrix: str, depth: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield each module that holds a part of openpi's matrix: its name, its tensor's, and where that part is."""
    for module, index in modules_of(adapter, depth):
        yield module, f"base_model.model.{module}.lora_{matrix}.weight", index


def _read(
    file: SafetensorsFile, path: str, shape: tuple[int, ...], model: Pi0Spec, settings: _Settings, read: set[str]
) -> np.ndarray:
    """Return one of openpi's matrices, assembled from those of its modules in all layers."""
    adapter = adapter_of(path)
    spec = spec_among(lora_of(model), adapter) if adapter else None
    assert adapter
    assert spec
    matrix = "A" if path == adapter.a else "B"
    params = np.empty(shape, np.float32)
    for module, name, index in _tensors(adapter, matrix, shape[0]):
        tensor = _matrix(file, name, path)
        read.add(name)
        place = params[index]
        rank = tensor.shape[0 if matrix == "A" else 1]
        if not math.isclose(settings.scale(module, rank), spec.scale, rel_tol=_SCALE_RTOL):
            found = settings.scale(module, rank)
            raise LoadError(
                f"{settings.path}: the scale of {module} is {found}, the model has {spec.scale}; {name} has rank {rank}"
            )
        try:
            place[...] = _openpi(adapter.site, adapter.name, matrix, tensor, place.shape)
        except ValueError as error:
            raise LoadError(f"{file.path}: {name} does not fit {path}: {error}") from error
    return params


def _matrix(file: SafetensorsFile, name: str, path: str) -> np.ndarray:
    """Return a matrix of an adapter in float32; reject what is no matrix of floats, or overflows."""
    leaf = file.leaves.get(name)
    if leaf is None:
        raise LoadError(f"{file.path}: {name} (of {path}): expected, found nothing")
    if leaf.dtype not in FLOATS or len(leaf.shape) != 2 or not math.prod(leaf.shape):
        raise LoadError(f"{file.path}: {name} (of {path}): expected a matrix of floats, found {leaf}")
    stored = file.read(name)
    with np.errstate(over="ignore"):
        tensor = np.asarray(stored, np.float32)
    if not np.array_equal(np.isinf(tensor), np.isinf(stored)):
        raise LoadError(f"{file.path}: {name} (of {path}): a finite value of {leaf} overflows in float32")
    return tensor


def _openpi(site: Site, name: str, matrix: str, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a module's matrix as openpi's, in this shape."""
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
