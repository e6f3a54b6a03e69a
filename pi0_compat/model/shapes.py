"""Name and size every parameter of a model from the sizes of its parts, without building the model.

Names follow openpi (``models/pi0.py``, ``models/gemma.py``, ``models/siglip.py`` at 15a9616): expert 0's modules carry
no suffix, expert 1's end in ``_1``, and layers are stacked along a leading axis. A test compares the table with the
flax model.
"""

from collections.abc import Iterator, Sequence

from pi0_compat.model.sites import adapter_shapes
from pi0_compat.model.specs import GemmaSpec, LoRASpec, SiglipSpec
from pi0_compat.paths import TOKEN_TABLE

Shape = tuple[int, ...]
# Path and shape of one parameter.
Named = tuple[str, Shape]

_LAYERS = "PaliGemma/llm/layers"


def expert_name(name: str, expert: int) -> str:
    """Return the module name of an expert: ``mlp`` for expert 0 and ``mlp_1`` for expert 1."""
    return name if expert == 0 else f"{name}_{expert}"


def gemma_shapes(experts: Sequence[GemmaSpec], vocab_size: int, adarms: Sequence[bool]) -> Iterator[Named]:
    """Yield the parameters of the language model and, if there is one, the action expert.

    Args:
      experts: sizes of every expert; expert 0 owns the token table.
      vocab_size: the number of rows of the token table.
      adarms: for every expert, whether its norms are projections of the flow-matching time.
    """
    yield TOKEN_TABLE, (vocab_size, experts[0].width)
    for i, (spec, adaptive) in enumerate(zip(experts, adarms, strict=True)):
        yield from _attention(i, spec)
        yield from _feed_forward(i, spec)
        for name in ("pre_attention_norm", "pre_ffw_norm"):
            yield from _stacked(spec.depth, _norm(f"{_LAYERS}/{expert_name(name, i)}", spec.width, adaptive=adaptive))
        yield from _norm(f"PaliGemma/llm/{expert_name('final_norm', i)}", spec.width, adaptive=adaptive)


def siglip_shapes(spec: SiglipSpec, *, image_size: int, out_width: int) -> Iterator[Named]:
    """Yield the parameters of the image encoder.

    Args:
      spec: its sizes.
      image_size: pixels along each side of an image.
      out_width: the width of the language model that the head projects to.
    """
    path, patches = "PaliGemma/img", (image_size // spec.patch_size) ** 2
    yield f"{path}/embedding/kernel", (spec.patch_size, spec.patch_size, 3, spec.width)
    yield f"{path}/embedding/bias", (spec.width,)
    yield f"{path}/pos_embedding", (1, patches, spec.width)
    yield from _stacked(spec.depth, _encoder_block(f"{path}/Transformer/encoderblock", spec))
    yield from _layer_norm(f"{path}/Transformer/encoder_norm", spec.width)
    yield from linear(f"{path}/head", spec.width, out_width)


def linear(path: str, inputs: int, outputs: int) -> Iterator[Named]:
    """Yield kernel and bias of a dense layer."""
    yield f"{path}/kernel", (inputs, outputs)
    yield f"{path}/bias", (outputs,)


def _attention(expert: int, spec: GemmaSpec) -> Iterator[Named]:
    heads, kv_heads, width, head_dim = spec.num_heads, spec.num_kv_heads, spec.width, spec.head_dim
    weights: dict[str, Shape] = {"attn_vec_einsum": (heads, head_dim, width)}
    if kv_heads == heads:
        weights["qkv_einsum"] = (3, heads, width, head_dim)
    else:
        weights["q_einsum"] = (heads, width, head_dim)
        weights["kv_einsum"] = (2, kv_heads, width, head_dim)
    for site, shape in weights.items():
        module = f"{_LAYERS}/attn/{expert_name(site, expert)}"
        yield from _adapted(f"{module}/w", f"{module}/", (spec.depth, *shape), spec.lora_attn)


def _feed_forward(expert: int, spec: GemmaSpec) -> Iterator[Named]:
    weights = {"gating_einsum": (2, spec.width, spec.mlp_dim), "linear": (spec.mlp_dim, spec.width)}
    for site, shape in weights.items():
        weight = f"{_LAYERS}/{expert_name('mlp', expert)}/{site}"
        yield from _adapted(weight, f"{weight}_", (spec.depth, *shape), spec.lora_ffn)


def _adapted(weight: str, prefix: str, shape: Shape, lora: LoRASpec | None) -> Iterator[Named]:
    """Yield a weight and, with LoRA, its two matrices, whose names start with ``prefix``."""
    yield weight, shape
    if lora:
        shape_a, shape_b = adapter_shapes(shape, lora.rank)
        yield f"{prefix}lora_a", shape_a
        yield f"{prefix}lora_b", shape_b


def _norm(path: str, width: int, *, adaptive: bool) -> Iterator[Named]:
    """Yield the parameters of a root-mean-square norm: a scale, or a projection to scale, shift and gate."""
    if adaptive:
        yield from linear(f"{path}/Dense_0", width, 3 * width)
    else:
        yield f"{path}/scale", (width,)


def _encoder_block(path: str, spec: SiglipSpec) -> Iterator[Named]:
    attention = f"{path}/MultiHeadDotProductAttention_0"
    heads = (spec.width, spec.num_heads, spec.width // spec.num_heads)
    for name in ("query", "key", "value"):
        yield f"{attention}/{name}/kernel", heads
        yield f"{attention}/{name}/bias", heads[1:]
    yield f"{attention}/out/kernel", (*heads[1:], spec.width)
    yield f"{attention}/out/bias", (spec.width,)
    yield from _layer_norm(f"{path}/LayerNorm_0", spec.width)
    yield from _layer_norm(f"{path}/LayerNorm_1", spec.width)
    yield from linear(f"{path}/MlpBlock_0/Dense_0", spec.width, spec.mlp_dim)
    yield from linear(f"{path}/MlpBlock_0/Dense_1", spec.mlp_dim, spec.width)


def _layer_norm(path: str, width: int) -> Iterator[Named]:
    yield f"{path}/scale", (width,)
    yield f"{path}/bias", (width,)


def _stacked(depth: int, layer: Iterator[Named]) -> Iterator[Named]:
    return ((path, (depth, *shape)) for path, shape in layer)
