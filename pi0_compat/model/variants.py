"""Gemma and SigLIP variants by name: openpi's sizes and tiny ones for tests."""

from collections.abc import Mapping
from typing import Any

from pi0_compat.model.specs import ExpertLoRA, GemmaSpec, SiglipSpec


def gemma_2b(lora: ExpertLoRA | None = None) -> GemmaSpec:
    return GemmaSpec(width=2048, depth=18, mlp_dim=16_384, num_heads=8, num_kv_heads=1, head_dim=256, lora=lora)


def gemma_300m(lora: ExpertLoRA | None = None) -> GemmaSpec:
    return GemmaSpec(width=1024, depth=18, mlp_dim=4096, num_heads=8, num_kv_heads=1, head_dim=256, lora=lora)


def gemma_dummy() -> GemmaSpec:
    """Return the sizes of openpi's configs for debugging, of both experts."""
    return GemmaSpec(width=64, depth=4, mlp_dim=128, num_heads=8, num_kv_heads=1, head_dim=16)


def siglip_so400m() -> SiglipSpec:
    return SiglipSpec(width=1152, depth=27, mlp_dim=4304, num_heads=16, patch_size=14)


def tiny_gemma_2b(lora: ExpertLoRA | None = None) -> GemmaSpec:
    return GemmaSpec(width=56, depth=3, mlp_dim=88, num_heads=4, num_kv_heads=1, head_dim=10, lora=lora)


def tiny_gemma_300m(lora: ExpertLoRA | None = None) -> GemmaSpec:
    return GemmaSpec(width=36, depth=3, mlp_dim=52, num_heads=4, num_kv_heads=1, head_dim=10, lora=lora)


def tiny_siglip() -> SiglipSpec:
    return SiglipSpec(width=24, depth=2, mlp_dim=44, num_heads=2, patch_size=14)


def _gemma_of(width: int, depth: int, mlp_dim: int, num_heads: int, num_kv_heads: int, head_dim: int) -> GemmaSpec:
    return GemmaSpec(
        width=width, depth=depth, mlp_dim=mlp_dim, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim
    )


# openpi's names (models/gemma.py, models/siglip.py at 15a9616), then google-deepmind/gemma's (gm/nn/_gemma.py).
GEMMA_VARIANTS: dict[str, GemmaSpec] = {
    "gemma_2b": gemma_2b(),
    "gemma_300m": gemma_300m(),
    "gemma_7b": _gemma_of(3072, 28, 24_576, 16, 16, 256),
    "gemma2_2b": _gemma_of(2304, 26, 9216, 8, 4, 256),
    "gemma2_9b": _gemma_of(3584, 42, 14_336, 16, 8, 256),
    "gemma2_27b": _gemma_of(4608, 46, 36_864, 32, 16, 128),
    "gemma3_1b": _gemma_of(1152, 26, 6912, 4, 1, 256),
    "gemma3_4b": _gemma_of(2560, 34, 10_240, 8, 4, 256),
    "gemma3_12b": _gemma_of(3840, 48, 15_360, 16, 8, 256),
    "gemma3_27b": _gemma_of(5376, 62, 21_504, 32, 16, 128),
}
SIGLIP_VARIANTS: dict[str, SiglipSpec] = {"So400m/14": siglip_so400m()}


def variant_of(part: Mapping[str, Any]) -> str | None:
    """Return openpi's name for an expert or image encoder of these sizes; None if it has none."""
    for name, spec in (GEMMA_VARIANTS | SIGLIP_VARIANTS).items():
        known = spec.to_json()
        if "width" in part and all(known.get(key) == value for key, value in part.items() if key != "lora"):
            return name
    return None
