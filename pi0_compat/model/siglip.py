"""SigLIP's vision encoder as PaliGemma uses it: a ViT without pooling, its head as wide as the language model.

Axes: B images, P patches, N heads, H head dim, D width.

Written from SigLIP (arXiv:2303.15343) and ViT (arXiv:2010.11929); names and numerics follow openpi
``models/siglip.py`` at 15a9616: patches and position embeddings in float32, the encoder in the compute dtype.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from pi0_compat.model.gemma import scan_layers, stack_layers
from pi0_compat.model.specs import Remat, SiglipSpec

LAYER_NORM_EPSILON = 1e-6


class SelfAttention(nnx.Module):
    """Multi-head self-attention with biases."""

    def __init__(self, width: int, num_heads: int, *, dtype: str, rngs: nnx.Rngs) -> None:
        self.dtype = dtype
        heads = (num_heads, width // num_heads)
        for name in ("query", "key", "value"):
            setattr(self, name, nnx.LinearGeneral(width, heads, dtype=dtype, rngs=rngs))
        self.out = nnx.LinearGeneral(heads, width, axis=(-2, -1), dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, P, D] -> [B, P, D]."""
        attended = nnx.dot_product_attention(self.query(x), self.key(x), self.value(x), dtype=self.dtype)
        return self.out(attended)


class MlpBlock(nnx.Module):
    """Two dense layers around a gelu (by tanh)."""

    def __init__(self, width: int, mlp_dim: int, *, dtype: str, rngs: nnx.Rngs) -> None:
        self.Dense_0 = nnx.Linear(width, mlp_dim, dtype=dtype, rngs=rngs)
        self.Dense_1 = nnx.Linear(mlp_dim, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.Dense_1(nnx.gelu(self.Dense_0(x)))


class EncoderBlock(nnx.Module):
    """One pre-norm encoder layer."""

    def __init__(self, spec: SiglipSpec, *, dtype: str, rngs: nnx.Rngs) -> None:
        self.LayerNorm_0 = nnx.LayerNorm(spec.width, epsilon=LAYER_NORM_EPSILON, dtype=dtype, rngs=rngs)
        self.MultiHeadDotProductAttention_0 = SelfAttention(spec.width, spec.num_heads, dtype=dtype, rngs=rngs)
        self.LayerNorm_1 = nnx.LayerNorm(spec.width, epsilon=LAYER_NORM_EPSILON, dtype=dtype, rngs=rngs)
        self.MlpBlock_0 = MlpBlock(spec.width, spec.mlp_dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.MultiHeadDotProductAttention_0(self.LayerNorm_0(x))
        return x + self.MlpBlock_0(self.LayerNorm_1(x))


class Encoder(nnx.Module):
    """Stacked encoder layers and a final norm."""

    def __init__(self, spec: SiglipSpec, *, dtype: str, remat: Remat, rngs: nnx.Rngs) -> None:
        self.remat = remat
        self.encoderblock = stack_layers(EncoderBlock(spec, dtype=dtype, rngs=rngs), spec.depth)
        self.encoder_norm = nnx.LayerNorm(spec.width, epsilon=LAYER_NORM_EPSILON, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x, _ = scan_layers(self.encoderblock, lambda block, x, _: (block(x), None), x, remat=self.remat)
        return self.encoder_norm(x)


class Siglip(nnx.Module):
    """Images to tokens of the language model's width."""

    def __init__(
        self, spec: SiglipSpec, *, image_size: int, out_width: int, dtype: str, remat: Remat, rngs: nnx.Rngs
    ) -> None:
        self.dtype = dtype
        patch = (spec.patch_size, spec.patch_size)
        num_patches = (image_size // spec.patch_size) ** 2
        self.embedding = nnx.Conv(3, spec.width, patch, strides=patch, padding="VALID", dtype=jnp.float32, rngs=rngs)
        self.pos_embedding = nnx.Param(jnp.zeros((1, num_patches, spec.width)))
        self.Transformer = Encoder(spec, dtype=dtype, remat=remat, rngs=rngs)
        self.head = nnx.Linear(spec.width, out_width, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """float[B, height, width, 3] in [-1, 1] -> [B, P, out_width] in the compute dtype."""
        x = self.embedding(images.astype(jnp.float32))
        x = x.reshape(x.shape[0], -1, x.shape[-1]) + self.pos_embedding[...]
        return self.head(self.Transformer(x.astype(self.dtype)))
