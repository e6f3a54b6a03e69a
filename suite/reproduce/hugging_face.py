"""The sizes of a spec as the options of transformers' configs, which lerobot's policies use too."""

from typing import Any


def gemma_options(sizes: Any, rows: int) -> dict[str, Any]:
    """Return the options of a GemmaConfig.

    Args:
      sizes: an expert's sizes.
      rows: rows of the token table.
    """
    return {
        "model_type": "gemma",
        "vocab_size": rows,
        "hidden_size": sizes["width"],
        "num_hidden_layers": sizes["depth"],
        "intermediate_size": sizes["mlp_dim"],
        "num_attention_heads": sizes["num_heads"],
        "num_key_value_heads": sizes["num_kv_heads"],
        "head_dim": sizes["head_dim"],
    }


def siglip_options(spec: Any) -> dict[str, Any]:
    """Return the options of a SiglipVisionConfig."""
    sizes = spec["siglip"]
    return {
        "model_type": "siglip_vision_model",
        "image_size": spec["image_size"],
        "patch_size": sizes["patch_size"],
        "hidden_size": sizes["width"],
        "intermediate_size": sizes["mlp_dim"],
        "num_hidden_layers": sizes["depth"],
        "num_attention_heads": sizes["num_heads"],
        "vision_use_head": False,
    }


def paligemma_options(spec: Any, rows: int) -> dict[str, Any]:
    """Return the options of a PaliGemmaConfig.

    Args:
      spec: a model's spec.
      rows: rows of the token table.
    """
    return {
        "image_token_id": spec["vocab_size"],
        "projection_dim": spec["paligemma"]["width"],
        "text_config": gemma_options(spec["paligemma"], rows),
        "vision_config": siglip_options(spec),
    }
