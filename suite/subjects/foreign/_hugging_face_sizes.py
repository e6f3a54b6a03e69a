"""The sizes of a spec under the names of transformers' configs, which openpi's and lerobot's models use too."""

from typing import Any


def gemma_sizes(gemma: Any) -> dict[str, Any]:
    """Return the sizes of one of the two Gemmas, without the number of key/value heads."""
    return {
        "hidden_size": gemma["width"],
        "num_hidden_layers": gemma["depth"],
        "intermediate_size": gemma["mlp_dim"],
        "num_attention_heads": gemma["num_heads"],
        "head_dim": gemma["head_dim"],
    }


def siglip_sizes(siglip: Any) -> dict[str, Any]:
    """Return the sizes of the vision encoder, without the image's size."""
    return {
        "patch_size": siglip["patch_size"],
        "hidden_size": siglip["width"],
        "intermediate_size": siglip["mlp_dim"],
        "num_hidden_layers": siglip["depth"],
        "num_attention_heads": siglip["num_heads"],
    }
