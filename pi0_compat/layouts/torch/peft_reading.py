"""Read a PEFT adapter of transformers' PI0, or of openpi's and lerobot's, as openpi's adapters.

Where openpi has a pair of matrices for each head (the inputs of attention), PEFT has one of a module. What
``write_peft`` writes has a block for each head, and is taken apart. Any other has one ``lora_A`` for all heads, of
which each of openpi's gets a copy: the same function. Where the ranks of a group differ, the lower are filled up with
zeros, and a module that was not trained gets zeros.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pi0_compat.errors import LoadError
from pi0_compat.layouts.layout import ADAPTER_WEIGHTS
from pi0_compat.layouts.torch.not_weights import require_weights
from pi0_compat.layouts.torch.peft_names import PREFIX, Names, describe_others, modules_of, names_of
from pi0_compat.layouts.torch.peft_settings import Settings, read_settings
from pi0_compat.layouts.torch.safetensors_file import FLOATS, SafetensorsFile, open_safetensors
from pi0_compat.lora.sites import Adapter, ExpertLoRAs, adapter_of, lora_of, spec_among
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import EXPERTS, ExpertLoRA, LoRASpec
from pi0_compat.params import Leaf, Params, leaves_of
from pi0_compat.paths import is_adapter
from pi0_compat.storage.stream import Source, cut
from pi0_compat.text import shorten

# PEFT's alpha and rank are openpi's times the number of heads; their quotient may differ by a rounding.
_SCALE_RTOL = 1e-6
_GROUPS = ("attn", "ffn")


class PeftAdapters(Source):
    """The adapters of a PEFT folder under openpi's names, in float32.

    Attributes:
      path: the folder.
      leaves: path -> shape and dtype of every matrix.
      experts: rank and alpha of both experts' adapters, from ``adapter_config.json``.
    """

    def __init__(self, folder: Path, model: Pi0Spec) -> None:
        self.path = folder
        opened = _opened(folder)
        self.experts = opened.experts(model)
        try:
            adapted = with_lora(model, self.experts)
        except ValueError as error:
            raise LoadError(
                f"{opened.file.path}: its adapters do not fit the model ({error}); choose the config of their base"
            ) from error
        self._params = opened.params(adapted, fill=True)
        self.leaves: dict[str, Leaf] = dict(sorted(leaves_of(self._params).items()))

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a matrix of all layers in parts."""
        return cut(self._params[path])


def read_peft(folder: Path, model: Pi0Spec) -> tuple[Params, dict[str, Leaf]]:
    """Return the adapters of a folder, for a model that has them, and in what dtype they are stored.

    Args:
      folder: a local folder with ``adapter_model.safetensors`` and ``adapter_config.json``.
      model: the model with adapters.

    Returns:
      path -> float32 array of every adapter of the model; path -> its shape, and the widest dtype of its layers.

    Raises:
      CheckpointError: there is no readable adapter in the folder.
      LoadError: the adapter is of a kind that pi0 has no place for; a module has no adapter, or one of another shape,
        rank or scale than the model's; or there are more modules.
    """
    opened = _opened(folder)
    params = opened.params(model, fill=False)
    return params, {path: opened.stored(path, array.shape) for path, array in params.items()}


def with_lora(model: Pi0Spec, experts: ExpertLoRAs) -> Pi0Spec:
    """Return the model with these adapters on its experts."""
    adapted = {
        name: dataclasses.replace(expert, lora=lora)
        for name, expert, lora in zip(EXPERTS, model.experts, experts, strict=False)
    }
    return dataclasses.replace(model, **adapted)  # type: ignore[arg-type]


def _opened(folder: Path) -> "_Opened":
    settings = read_settings(folder)
    with open_safetensors(folder / ADAPTER_WEIGHTS) as file:
        require_weights(file.path, file.leaves, {})
        return _Opened(file, settings, names_of(file.path, file.leaves))


class _Opened(NamedTuple):
    """An adapter file with its settings."""

    file: SafetensorsFile
    settings: Settings
    names: Names

    def experts(self, model: Pi0Spec) -> ExpertLoRAs:
        """Return rank and alpha of the adapters as openpi has them: the largest rank of each group of modules."""
        found: list[ExpertLoRA | None] = []
        for number in range(len(model.experts)):
            groups = {group: self._spec(model, number, group) for group in _GROUPS}
            found.append(ExpertLoRA(**groups) if any(groups.values()) else None)
        if not any(found):
            some = ", ".join(sorted(self.file.leaves)[:3]) or "none"
            raise LoadError(
                f"{self.file.path}: has no adapter of a language model of pi0's, found {some}"
                f"{describe_others(self.file.leaves)}"
            )
        return (*found, None)[:2]

    def _spec(self, model: Pi0Spec, expert: int, group: str) -> LoRASpec | None:
        """Return the largest rank of a group of modules, and the alpha that gives the first one's scale."""
        bare = dataclasses.replace(model.experts[expert], lora=ExpertLoRA(**{group: LoRASpec(rank=1, alpha=1.0)}))
        adapted = dataclasses.replace(model.without_lora(), **{EXPERTS[expert]: bare})  # type: ignore[arg-type]
        plain: list[int] = []
        per_head: list[int] = []
        scales: list[float] = []
        for path, leaf in adapted.param_spec().items():
            adapter = adapter_of(path)
            if not is_adapter(path) or adapter is None or path != adapter.b:
                continue
            modules = [module for module, _ in modules_of(adapter, leaf.shape[0]) if self._has(module)]
            tensors = [self._matrix(module, "B", path) for module in modules]
            heads = leaf.shape[-3] if _is_per_head(adapter) else 1
            parted = heads if all(_is_in_blocks(tensor, heads) for tensor in tensors) else 1
            plain += [tensor.shape[1] for tensor in tensors]
            per_head += [tensor.shape[1] // parted for tensor in tensors]
            scales += [self._scale(module, tensor.shape[1]) for module, tensor in zip(modules, tensors, strict=True)]
        if not plain:
            return None
        # Blocks are what ``write_peft`` writes, and then all ranks of a group are one.
        rank = per_head[0] if len(set(per_head)) == 1 else max(plain)
        return LoRASpec(rank=rank, alpha=scales[0] * rank)

    def params(self, model: Pi0Spec, *, fill: bool) -> Params:
        """Return all adapters of a model; with ``fill``, modules and ranks that the file does not have are zeros."""
        shapes = {path: x.shape for path, x in model.param_spec().items() if is_adapter(path)}
        read: dict[str, tuple[str, int]] = {}
        params, wrong = {}, []
        for path, shape in shapes.items():
            adapter = adapter_of(path)
            spec = spec_among(lora_of(model), adapter) if adapter else None
            assert adapter
            assert spec
            try:
                params[path] = self._read(adapter, spec, path, shape, read, fill=fill)
            except LoadError as error:
                wrong.append(str(error))
        if wrong:
            raise LoadError("\n".join(shorten(wrong)))
        for name, (module, rank) in read.items():
            self.settings.require_rank(module, name, rank)
        if left := sorted(self.file.leaves.keys() - read.keys()):
            raise LoadError(
                f"{self.file.path}: {len(left)} tensors have no place in the model, for example {left[0]}"
                f"{describe_others(left)}"
            )
        return params

    def _read(
        self,
        adapter: Adapter,
        spec: LoRASpec,
        path: str,
        shape: tuple[int, ...],
        read: dict[str, tuple[str, int]],
        *,
        fill: bool,
    ) -> np.ndarray:
        """Return one of openpi's matrices, assembled from those of its modules in all layers.

        What is read is added to ``read``: name of the tensor -> name of its module, and rank.
        """
        matrix = "A" if path == adapter.a else "B"
        params = np.zeros(shape, np.float32)
        places = list(modules_of(adapter, shape[0]))
        trained = {_kind(module) for module, _ in places if self._has(module)}
        for module, index in places:
            if fill and _kind(module) not in trained:
                continue
            tensor = self._matrix(module, matrix, path)
            name = self.names.matrices[module, matrix]
            place, rank = params[index], tensor.shape[0 if matrix == "A" else 1]
            read[name] = self.names.modules[module], rank
            scale = self._scale(module, rank)
            if not math.isclose(scale, spec.scale, rel_tol=_SCALE_RTOL):
                raise LoadError(
                    f"{self.settings.path}: the scale of {module} is {scale}, the model has {spec.scale}; {name} has "
                    f"rank {rank}"
                )
            try:
                place[...] = _openpi(adapter, matrix, tensor, place.shape, spec.rank, fill=fill)
            except ValueError as error:
                raise LoadError(f"{self.file.path}: {name} does not fit {path}: {error}") from error
        return params

    def stored(self, path: str, shape: tuple[int, ...]) -> Leaf:
        """Return a matrix of openpi's as it is stored: in several dtypes, the widest."""
        adapter = adapter_of(path)
        assert adapter
        matrix = "A" if path == adapter.a else "B"
        names = [self.names.matrices[module, matrix] for module, _ in modules_of(adapter, shape[0])]
        dtypes = {self.file.leaves[name].dtype for name in names}
        # float16 and bfloat16 have no common dtype but float32, and numpy does not find it.
        start = np.dtype(np.float32) if len(dtypes) > 1 else next(iter(dtypes))
        return Leaf(shape, functools.reduce(np.promote_types, dtypes, start))

    def _has(self, module: str) -> bool:
        return any((module, matrix) in self.names.matrices for matrix in "AB")

    def _scale(self, module: str, rank: int) -> float:
        return self.settings.scale(self.names.modules.get(module, module), rank)

    def _matrix(self, module: str, matrix: str, path: str) -> np.ndarray:
        """Return a matrix of an adapter in float32; reject what is no matrix of floats, or overflows."""
        name = self.names.matrices.get((module, matrix))
        if name is None:
            name = f"{PREFIX}{self.names.modules.get(module, module)}.lora_{matrix}.weight"
            raise LoadError(f"{self.file.path}: {name} (of {path}): expected, found nothing")
        leaf = self.file.leaves[name]
        if leaf.dtype not in FLOATS or len(leaf.shape) != 2 or not math.prod(leaf.shape):
            raise LoadError(f"{self.file.path}: {name} (of {path}): expected a matrix of floats, found {leaf}")
        stored = self.file.read(name)
        with np.errstate(over="ignore"):
            tensor = np.asarray(stored, np.float32)
        if not np.array_equal(np.isinf(tensor), np.isinf(stored)):
            raise LoadError(f"{self.file.path}: {name} (of {path}): a finite value of {leaf} overflows in float32")
        return tensor


def _kind(module: str) -> str:
    """Return the name of a module without its layer."""
    return re.sub(r"\.layers\.\d+\.", ".layers.", module)


def _is_per_head(adapter: Adapter) -> bool:
    """Return whether openpi has a pair of matrices for each head of these modules' outputs."""
    return adapter.site.group == "attn" and adapter.name != "attn_vec_einsum"


def _is_in_blocks(lora_b: np.ndarray, heads: int) -> bool:
    """Return whether each head's outputs take ranks of their own, as ``write_peft`` writes them."""
    outputs, rank = lora_b.shape
    if outputs % heads or rank % heads:
        return False
    parted = lora_b.reshape(heads, outputs // heads, heads, rank // heads)
    blocks = np.stack([parted[head, :, head] for head in range(heads)])
    return bool(np.count_nonzero(blocks) == np.count_nonzero(lora_b))


def _openpi(
    adapter: Adapter, matrix: str, tensor: np.ndarray, shape: tuple[int, ...], rank: int, *, fill: bool
) -> np.ndarray:
    """Return a module's matrix as openpi's, in this shape.

    Args:
      adapter: whose matrix it is.
      matrix: A or B.
      tensor: PEFT's, [rank, inputs] or [outputs, rank].
      shape: openpi's.
      rank: of openpi's adapter.
      fill: whether a lower rank is filled up with zeros.
    """
    axis = 0 if matrix == "A" else 1
    found = tensor.shape[axis]
    if _is_per_head(adapter) and found == shape[0] * rank and shape[0] > 1:
        return _of_blocks(matrix, tensor, shape)
    if fill and found < rank:
        tensor = np.pad(tensor, [(0, rank - found if number == axis else 0) for number in range(2)])
    if adapter.site.group == "ffn":
        return tensor.T
    if adapter.name == "attn_vec_einsum":
        if matrix == "A":
            return tensor.T.reshape(shape)
        first = np.zeros(shape, tensor.dtype)
        first[0] = tensor.T
        return first
    if matrix == "A":
        return np.broadcast_to(tensor.T, shape)
    heads, _, dim = shape
    return tensor.reshape(heads, dim, -1).transpose(0, 2, 1)


def _of_blocks(matrix: str, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return openpi's matrices of all heads, which have a block of PEFT's each."""
    if matrix == "A":
        heads, width, rank = shape
        return tensor.reshape(heads, rank, width).transpose(0, 2, 1)
    heads, rank, dim = shape
    if not _is_in_blocks(tensor, heads):
        raise ValueError("it mixes heads, for which openpi has no place")
    parted = tensor.reshape(heads, dim, heads, rank)
    return np.stack([parted[head, :, head].T for head in range(heads)])
