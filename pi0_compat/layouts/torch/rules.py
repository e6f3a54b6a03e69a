"""Map openpi's stacked arrays to PyTorch's tensors, one for each layer and projection, and back.

Axes: L layers, C projections fused into one array (q, k, v or gate, up), N heads, K key/value heads, H head dim, D
width, I inputs, O outputs, P positions; patches have height, width and channels R, S, T. A torch ``Linear`` keeps its
weight as [outputs, inputs], a ``Conv2d`` as [outputs, channels, height, width], and heads are merged into the
outputs.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from pi0_compat.model.specs import GemmaSpec, SiglipSpec
from pi0_compat.params import Leaf
from pi0_compat.storage.stream import cut, rows_at_a_time, whole

Shape = tuple[int, ...]
# Bytes of a cache line: as many rows are transposed at a time as fill the lines that are written.
_LINE = 64
_GROUP = re.compile(r"\((\w+)\)|(\w)")


class Rule(NamedTuple):
    """One parameter and the tensors that hold it.

    Attributes:
      path: the parameter, in openpi's names.
      axes: of one piece, for example ``NDH->(NH)D``: openpi's order, torch's order, merged axes in parentheses.
      names: of the tensors; several for a fused projection, with ``{layer}`` if layers are stacked.
      depth: the number of stacked layers; None for a parameter outside of the layers.
    """

    path: str
    axes: str
    names: tuple[str, ...]
    depth: int | None = None

    def pieces(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name of every tensor, and the index of its piece in the parameter."""
        for layer in [()] if self.depth is None else [(n,) for n in range(self.depth)]:
            for part, name in enumerate(self.names):
                index = layer if len(self.names) == 1 else (*layer, part)
                yield name.format(layer=layer[0] if layer else None), index

    def piece_shape(self, shape: Shape) -> Shape:
        """Return the shape of a piece of a parameter of this shape."""
        return shape[(self.depth is not None) + (len(self.names) > 1) :]

    def tensor_shape(self, shape: Shape) -> Shape:
        """Return the shape of each tensor of a parameter of this shape."""
        piece = dict(zip(self.source, self.piece_shape(shape), strict=True))
        return tuple(math.prod(piece[axis] for axis in group) for group in self.groups)

    def to_torch(self, piece: np.ndarray) -> np.ndarray:
        """Return a piece as its tensor, in C order."""
        moved = piece.transpose(self.order)
        if not moved.flags.c_contiguous:
            moved = np.empty(moved.shape, piece.dtype)
            _transpose(piece, moved.transpose(np.argsort(self.order)))
        sizes = iter(moved.shape)
        return moved.reshape([math.prod(next(sizes) for _ in group) for group in self.groups])

    def place(self, tensor: np.ndarray, piece: np.ndarray) -> None:
        """Write a tensor into its piece, cast to the piece's dtype: the inverse of ``to_torch``."""
        _transpose(tensor.reshape([piece.shape[axis] for axis in self.order]), piece.transpose(self.order))

    def tensors(self, slabs: Iterable[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the tensors of a parameter that is read in slabs.

        A tensor that is a copy of the parameter is yielded in slabs too.
        """
        if self.is_a_copy:
            yield from ((self.names[0], slab) for slab in slabs)
            return
        layers = enumerate(layer for slab in slabs for layer in slab) if self.depth else [(None, whole(slabs))]
        for layer, pieces in layers:
            for name, piece in zip(self.names, pieces if len(self.names) > 1 else [pieces], strict=True):
                yield name.format(layer=layer), self.to_torch(piece)

    def slabs(self, leaf: Leaf, read: Callable[[str], np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the parameter in slabs.

        Args:
          leaf: its shape and dtype.
          read: returns a tensor by name.
        """
        if self.is_a_copy:
            yield from (slab.astype(leaf.dtype, copy=False) for slab in cut(read(self.names[0])))
            return
        names: dict[int, list[tuple[str, tuple[int, ...]]]] = {}
        for name, index in self.pieces():
            names.setdefault(index[0] if self.depth else 0, []).append((name, index[1:] if self.depth else index))
        layers = Leaf(leaf.shape if self.depth else (1, *leaf.shape), leaf.dtype)
        for rows in rows_at_a_time(layers):
            slab = np.empty((rows.stop - rows.start, *layers.shape[1:]), leaf.dtype)
            for layer, array in zip(range(rows.start, rows.stop), slab, strict=True):
                for name, index in names[layer]:
                    self.place(read(name), array[index])
            yield slab if self.depth else slab[0]

    @property
    def is_a_copy(self) -> bool:
        """Whether the parameter is one tensor, unchanged."""
        return self.depth is None and self.groups == list(self.source)

    def parted(self, tensor: Shape, like: Shape) -> Shape | None:
        """Return the shape of the piece that a tensor of this shape holds.

        Merged axes but the first are as long as those of the piece ``like``. None if the tensor has another number of
        axes, or a length that is no multiple.
        """
        sizes = dict(zip(self.source, like, strict=True))
        if len(tensor) != len(self.groups):
            return None
        for group, size in zip(self.groups, tensor, strict=True):
            free = group.removeprefix("B")[0]  # the first axis of positions has length one
            rest = math.prod(sizes[axis] for axis in group if axis != free)
            if size % rest:
                return None
            sizes[free] = size // rest
        return tuple(sizes[axis] for axis in self.source)

    @property
    def source(self) -> str:
        return self.axes.partition("->")[0]

    @property
    def groups(self) -> list[str]:
        """The axes of openpi that make up each axis of the tensor."""
        return [merged or single for merged, single in _GROUP.findall(self.axes.partition("->")[2])]

    @property
    def order(self) -> list[int]:
        return [self.source.index(axis) for axis in "".join(self.groups)]


def _transpose(array: np.ndarray, target: np.ndarray) -> None:
    """Write an array into a target of its shape and another order in memory, cast to its dtype.

    As many values of the axis that is innermost in the target are taken at a time as fill a cache line of it: lines
    are written whole, and what is read of the array stays in the cache.
    """
    axis = min(range(array.ndim), key=lambda axis: (target.strides[axis], -axis), default=0)
    if array.ndim < 2 or axis == array.ndim - 1:
        target[...] = array.astype(target.dtype, copy=False)
        return
    step = max(1, _LINE // target.itemsize)
    for first in range(0, array.shape[axis], step):
        part = (*[slice(None)] * axis, slice(first, first + step))
        target[part] = array[part].astype(target.dtype, copy=False)


def linear(path: str, name: str, *, depth: int | None = None) -> list[Rule]:
    """Return the rules of a dense layer: kernel and bias."""
    return [
        Rule(f"{path}/kernel", "IO->OI", (f"{name}.weight",), depth),
        Rule(f"{path}/bias", "O->O", (f"{name}.bias",), depth),
    ]


def siglip_rules(spec: SiglipSpec, path: str, vision: str, projector: str) -> list[Rule]:
    """Return the rules of the vision encoder.

    Args:
      spec: its sizes.
      path: the encoder in openpi's tree.
      vision: the prefix of its tensors.
      projector: the prefix of the linear layer that is its head.
    """
    rules = [
        Rule(f"{path}/embedding/kernel", "RSTD->DTRS", (f"{vision}.embeddings.patch_embedding.weight",)),
        Rule(f"{path}/embedding/bias", "D->D", (f"{vision}.embeddings.patch_embedding.bias",)),
        Rule(f"{path}/pos_embedding", "BPD->(BP)D", (f"{vision}.embeddings.position_embedding.weight",)),
    ]
    rules += _siglip_layer(spec.depth, f"{path}/Transformer/encoderblock", f"{vision}.encoder.layers.{{layer}}")
    rules += _layer_norm(f"{path}/Transformer/encoder_norm", f"{vision}.post_layernorm")
    return rules + linear(f"{path}/head", projector)


def gemma_rules(spec: GemmaSpec, path: str, name: str, suffix: str = "", *, adarms: bool = False) -> list[Rule]:
    """Return the rules of the layers and the final norm of an expert.

    Args:
      spec: its sizes.
      path: the language models in openpi's tree.
      name: the prefix of the expert's tensors.
      suffix: the end of the names of the expert's modules in openpi's tree.
      adarms: whether its norms are projections of the flow-matching time.
    """
    layers, layer = f"{path}/layers", f"{name}.layers.{{layer}}"
    rules = _attention(spec, f"{layers}/attn", f"{layer}.self_attn", suffix)
    rules += [
        Rule(f"{layers}/mlp{suffix}/gating_einsum", "IO->OI", _names(f"{layer}.mlp", "gate", "up"), spec.depth),
        Rule(f"{layers}/mlp{suffix}/linear", "IO->OI", _names(f"{layer}.mlp", "down"), spec.depth),
    ]
    norms = (("pre_attention_norm", "input_layernorm"), ("pre_ffw_norm", "post_attention_layernorm"))
    for ours, theirs in norms:
        rules += _rms_norm(f"{layers}/{ours}{suffix}", f"{layer}.{theirs}", adarms=adarms, depth=spec.depth)
    return rules + _rms_norm(f"{path}/final_norm{suffix}", f"{name}.norm", adarms=adarms)


def _attention(spec: GemmaSpec, path: str, name: str, suffix: str) -> list[Rule]:
    out = Rule(f"{path}/attn_vec_einsum{suffix}/w", "NHD->D(NH)", _names(name, "o"), spec.depth)
    if spec.num_kv_heads == spec.num_heads:
        return [Rule(f"{path}/qkv_einsum{suffix}/w", "NDH->(NH)D", _names(name, "q", "k", "v"), spec.depth), out]
    return [
        Rule(f"{path}/q_einsum{suffix}/w", "NDH->(NH)D", _names(name, "q"), spec.depth),
        Rule(f"{path}/kv_einsum{suffix}/w", "KDH->(KH)D", _names(name, "k", "v"), spec.depth),
        out,
    ]


def _siglip_layer(depth: int, path: str, name: str) -> list[Rule]:
    attention, mlp = f"{path}/MultiHeadDotProductAttention_0", f"{path}/MlpBlock_0"
    rules = _layer_norm(f"{path}/LayerNorm_0", f"{name}.layer_norm1", depth)
    rules += _layer_norm(f"{path}/LayerNorm_1", f"{name}.layer_norm2", depth)
    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v")):
        projection = f"{name}.self_attn.{theirs}_proj"
        rules.append(Rule(f"{attention}/{ours}/kernel", "DNH->(NH)D", (f"{projection}.weight",), depth))
        rules.append(Rule(f"{attention}/{ours}/bias", "NH->(NH)", (f"{projection}.bias",), depth))
    rules.append(Rule(f"{attention}/out/kernel", "NHD->D(NH)", (f"{name}.self_attn.out_proj.weight",), depth))
    rules.append(Rule(f"{attention}/out/bias", "D->D", (f"{name}.self_attn.out_proj.bias",), depth))
    rules += linear(f"{mlp}/Dense_0", f"{name}.mlp.fc1", depth=depth)
    return rules + linear(f"{mlp}/Dense_1", f"{name}.mlp.fc2", depth=depth)


def _names(module: str, *projections: str) -> tuple[str, ...]:
    return tuple(f"{module}.{projection}_proj.weight" for projection in projections)


def _layer_norm(path: str, name: str, depth: int | None = None) -> list[Rule]:
    return [
        Rule(f"{path}/scale", "D->D", (f"{name}.weight",), depth),
        Rule(f"{path}/bias", "D->D", (f"{name}.bias",), depth),
    ]


def _rms_norm(path: str, name: str, *, adarms: bool, depth: int | None = None) -> list[Rule]:
    if adarms:
        return linear(f"{path}/Dense_0", f"{name}.dense", depth=depth)
    return [Rule(f"{path}/scale", "D->D", (f"{name}.weight",), depth)]
