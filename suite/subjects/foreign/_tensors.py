"""openpi's stacked arrays as the tensors of transformers' modules, one for each layer and projection, and back.

Axes: N heads, H head dim, D width, R rank, I inputs, O outputs, S, T, C rows, columns and channels of a patch. A torch
Linear holds [outputs, inputs]; heads are adjacent in the outputs of q, k and v and in the inputs of o.

Two forms are for adapters only: BLOCKS, a block-diagonal matrix with one block per head, and SUM, the sum over heads,
which goes to the first head on the way back.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import torch

Params = dict[str, np.ndarray]
Tensors = dict[str, torch.Tensor]
# Before 5.6 the image encoder was one module deeper.
_VERSION = tuple(int(part) for part in metadata.version("transformers").split(".")[:2])
VISION_TOWER = "vision_tower" if _VERSION >= (5, 6) else "vision_tower.vision_model"
BLOCKS, SUM = "blocks", "sum"
IMG, LLM = "PaliGemma/img", "PaliGemma/llm"


class Rule(NamedTuple):
    """The tensors that hold one parameter: several for a fused projection, one per layer if ``depth`` is given.

    ``axes`` are openpi's, then torch's; merged axes are in parentheses, heads first.
    """

    names: tuple[str, ...]
    axes: str
    depth: int | None = None
    heads: int = 1

    def tensors(self, array: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        for n, layer in enumerate(array.unbind() if self.depth else [array]):
            pieces = layer.unbind() if len(self.names) > 1 else [layer]
            for name, piece in zip(self.names, pieces, strict=True):
                yield name.format(n), self._to_torch(piece).clone(memory_format=torch.contiguous_format)

    def array(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        layers = []
        for n in range(self.depth or 1):
            pieces = [self._from_torch(tensors[name.format(n)]) for name in self.names]
            layers.append(torch.stack(pieces) if len(pieces) > 1 else pieces[0])
        return torch.stack(layers) if self.depth else layers[0]

    def tensor_names(self) -> list[str]:
        return [name.format(n) for n in range(self.depth or 1) for name in self.names]

    def _to_torch(self, piece: torch.Tensor) -> torch.Tensor:
        if self.axes == BLOCKS:
            return torch.block_diag(*piece.mT)
        if self.axes == SUM:
            return piece.sum(0).mT
        source, groups = _parse(self.axes)
        moved = piece.permute([source.index(axis) for axis in "".join(groups)])
        for n, group in enumerate(groups):
            moved = moved.flatten(n, n + len(group) - 1)
        return moved

    def _from_torch(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.axes == BLOCKS:
            parted = tensor.unflatten(1, (self.heads, -1)).unflatten(0, (self.heads, -1))
            return parted.diagonal(dim1=0, dim2=2).permute(2, 1, 0)
        if self.axes == SUM:
            return torch.cat([tensor.mT[None], tensor.new_zeros(self.heads - 1, *tensor.mT.shape)])
        source, groups = _parse(self.axes)
        for n in reversed(range(len(groups))):
            if len(groups[n]) > 1:
                tensor = tensor.unflatten(n, (self.heads, -1))
        return tensor.permute(["".join(groups).index(axis) for axis in source])


Rules = dict[str, Rule]


def _parse(axes: str) -> tuple[str, list[str]]:
    source, _, target = axes.partition("->")
    return source, [merged or single for merged, single in re.findall(r"\((\w+)\)|(\w)", target)]


def tensors_of(params: Mapping[str, np.ndarray], rules: Rules) -> Tensors:
    """Return the tensors of all parameters; one without a rule keeps its name, for the implementation to judge."""
    found: Tensors = {}
    for path, array in params.items():
        try:
            found |= rules[path].tensors(to_torch(array)) if path in rules else {path: to_torch(array)}
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path}: no tensors can be made of the shape {array.shape}: {error}") from error
    return found


def params_of(tensors: Mapping[str, torch.Tensor], rules: Rules) -> Params:
    """Return the parameters of the rules, from their tensors."""
    return {path: to_numpy(rule.array(tensors)) for path, rule in rules.items()}


def shapes_of(tensors: Mapping[str, torch.Tensor], rules: Rules) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and dtype of the parameters of the rules."""
    arrays = {path: rule.array(tensors) for path, rule in rules.items()}
    return {path: (tuple(x.shape), str(x.dtype).removeprefix("torch.")) for path, x in arrays.items()}


@contextmanager
def in_openpi_names(rules: Rules) -> Iterator[None]:
    """Append openpi's names to an error that names tensors, as results have openpi's names too."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        text = re.sub(r"(lora_[AB])\.\w+\.weight", r"\1.weight", str(error))
        named = [path for path, rule in rules.items() if any(name in text for name in rule.tensor_names())]
        raise type(error)(f"{error} (in openpi: {named})") from error


def to_torch(array: np.ndarray) -> torch.Tensor:
    """Return a copy with the same bits."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.tensor(array.view(np.int16)).view(torch.bfloat16)
    return torch.tensor(array)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a copy with the same bits."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return np.array(tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.array(tensor.numpy())


def paligemma_rules(spec: Any, root: str) -> Rules:
    """Return the rules of the image encoder and expert 0, in modules below ``root``."""
    rules = _siglip(spec["siglip"], f"{root}{VISION_TOWER}", f"{root}multi_modal_projector.linear")
    rules[f"{LLM}/embedder/input_embedding"] = Rule((f"{root}language_model.embed_tokens.weight",), "ND->ND")
    return rules | gemma_rules(spec["paligemma"], f"{root}language_model", "")


def _siglip(spec: Any, vision: str, projector: str) -> Rules:
    block, layer = f"{IMG}/Transformer/encoderblock", f"{vision}.encoder.layers.{{}}"
    attention, depth, heads = f"{block}/MultiHeadDotProductAttention_0", spec["depth"], spec["num_heads"]
    rules = {
        f"{IMG}/embedding/kernel": Rule((f"{vision}.embeddings.patch_embedding.weight",), "STCD->DCST"),
        f"{IMG}/embedding/bias": Rule((f"{vision}.embeddings.patch_embedding.bias",), "D->D"),
        # The position embeddings of one image have a leading axis of length one.
        f"{IMG}/pos_embedding": Rule((f"{vision}.embeddings.position_embedding.weight",), "NPD->(NP)D"),
        f"{attention}/out/kernel": Rule((f"{layer}.self_attn.out_proj.weight",), "NHD->D(NH)", depth, heads),
        f"{attention}/out/bias": Rule((f"{layer}.self_attn.out_proj.bias",), "D->D", depth),
    }
    for name in ("query", "key", "value"):
        projection = f"{layer}.self_attn.{name[0]}_proj"
        rules[f"{attention}/{name}/kernel"] = Rule((f"{projection}.weight",), "DNH->(NH)D", depth, heads)
        rules[f"{attention}/{name}/bias"] = Rule((f"{projection}.bias",), "NH->(NH)", depth, heads)
    for n in (0, 1):
        rules |= _affine(f"{block}/LayerNorm_{n}", f"{layer}.layer_norm{n + 1}", "scale", "D->D", depth)
        rules |= dense(f"{block}/MlpBlock_0/Dense_{n}", f"{layer}.mlp.fc{n + 1}", depth)
    rules |= _affine(f"{IMG}/Transformer/encoder_norm", f"{vision}.post_layernorm", "scale", "D->D")
    return rules | dense(f"{IMG}/head", projector)


def dense(path: str, name: str, depth: int | None = None) -> Rules:
    """Return the rules of a dense layer."""
    return _affine(path, name, "kernel", "IO->OI", depth)


def _affine(path: str, name: str, weight: str, axes: str, depth: int | None = None) -> Rules:
    return {
        f"{path}/{weight}": Rule((f"{name}.weight",), axes, depth),
        f"{path}/bias": Rule((f"{name}.bias",), "O->O", depth),
    }


def gemma_rules(spec: Any, root: str, suffix: str) -> Rules:
    """Return the rules of an expert without adapters; openpi's names of its modules end in ``suffix``."""
    layer, depth = f"{root}.layers.{{}}", spec["depth"]
    rules = {
        f"{LLM}/final_norm{suffix}/scale": Rule((f"{root}.norm.weight",), "D->D"),
        f"{LLM}/layers/pre_attention_norm{suffix}/scale": Rule((f"{layer}.input_layernorm.weight",), "D->D", depth),
        f"{LLM}/layers/pre_ffw_norm{suffix}/scale": Rule((f"{layer}.post_attention_layernorm.weight",), "D->D", depth),
    }
    for site in sites(spec, suffix):
        axes = {"attn_vec_einsum": "NHD->D(NH)", "gating_einsum": "IO->OI", "linear": "IO->OI"}
        names = tuple(f"{root}.{name}.weight" for name in site.modules)
        rules[site.weight] = Rule(names, axes.get(site.name, "NDH->(NH)D"), depth, site.heads)
    return rules


class Site(NamedTuple):
    """A weight of an expert that may have an adapter: its names in openpi, and its modules below the expert's."""

    name: str
    group: str
    weight: str
    adapter: str
    modules: tuple[str, ...]
    heads: int


def sites(spec: Any, suffix: str) -> list[Site]:
    """Return all such weights of an expert."""
    heads, kv_heads = spec["num_heads"], spec["num_kv_heads"]
    fused = (
        [("qkv_einsum", "qkv", heads)]
        if heads == kv_heads
        else [("q_einsum", "q", heads), ("kv_einsum", "kv", kv_heads)]
    )
    found = []
    for name, letters, count in (*fused, ("attn_vec_einsum", "o", heads)):
        path, modules = f"{LLM}/layers/attn/{name}{suffix}", (f"layers.{{}}.self_attn.{x}_proj" for x in letters)
        found.append(Site(name, "attn", f"{path}/w", f"{path}/", tuple(modules), count))
    for name, projections in (("gating_einsum", ("gate", "up")), ("linear", ("down",))):
        path, modules = f"{LLM}/layers/mlp{suffix}/{name}", (f"layers.{{}}.mlp.{x}_proj" for x in projections)
        found.append(Site(name, "ffn", path, f"{path}_", tuple(modules), 1))
    return found
