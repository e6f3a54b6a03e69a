"""Name other models of this field by the names of their tensors, so that a user learns what a file is.

A model is named only if its names prove it: names that several models share name all of them.
"""

import re
from collections.abc import Collection
from typing import NamedTuple


class Neighbor(NamedTuple):
    """A model that is no pi0, and a name that gave it away."""

    model: str
    sign: str


# What a model is called, and patterns of which each is found in some name; the first that fits counts.
_SIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("transformers' own PI0, PI0ForConditionalGeneration", (r"^(model\.)?dit\.", r"(^|\.)vlm\.")),
    ("the state of an optimizer", (r"(^|[./])(exp_avg|exp_avg_sq|momentum_buffer|max_exp_avg_sq)$",)),
    ("the state of an optimizer", (r"(^|[./])opt_state([./]|$)",)),
    ("the state of an optimizer", (r"(^|[./])mu[./]", r"(^|[./])nu[./]")),
    ("a normalizer of lerobot (statistics, no model)", (r"^(observation|action)[.\w]*\.(mean|std|q01|q99|min|max)$",)),
    ("SmolVLA, of lerobot", (r"(^|\.)vlm_with_expert\.",)),
    ("ACT, of lerobot", (r"(^|\.)(vae_encoder|action_head|decoder_pos_embed)[._]", r"(^|\.)encoder\.layers\.\d+\.")),
    ("ACT, of lerobot", (r"(^|\.)backbone\.(conv1|layer\d)\b", r"(^|\.)encoder\.layers\.\d+\.")),
    ("Diffusion Policy, of lerobot", (r"(^|\.)diffusion\.(unet|rgb_encoder)\.",)),
    ("VQ-BeT, of lerobot", (r"(^|\.)(vqvae|vqbet)[._]",)),
    ("GR00T", (r"(^|\.)(eagle_model|eagle_linear|action_head\.(action_encoder|state_encoder|model))\b",)),
    ("OpenVLA", (r"(^|\.)vision_backbone\.(fused_)?featurizer\.",)),
    ("Octo", (r"(^|/)octo_transformer/",)),
    (
        "FAST's FSQ tokenizer, which openpi's paligemma_vq_droid turns actions into tokens with",
        (r"^(params/)?codebook/", r"^(params/)?proj_mean/", r"^(params/)?decoder/"),
    ),
    ("Gemma 3n", (r"(^|[./_])(altup|laurel)([./_]|$)",)),
    ("Gemma 4", (r"(^|[./])(layer_scalar|skip_scale)$",)),
    ("Qwen2-VL or Qwen2.5-VL", (r"(^|\.)visual\.", r"self_attn\.q_proj\.bias$")),
    ("Qwen3-VL", (r"(^|\.)visual\.", r"self_attn\.q_norm\.")),
    ("Qwen2 or Qwen2.5", (r"(^|\.)layers\.\d+\.self_attn\.q_proj\.bias$", r"(^|\.)layers\.\d+\.mlp\.gate_proj\.")),
    (
        "Gemma 3",
        (
            r"(^|[./])(q_norm|k_norm|query_norm|key_norm|_query_norm|_key_norm)([./]|$)",
            r"(^|[./])(post_ffw_norm|post_feedforward_layernorm)([./]|$)",
        ),
    ),
    ("Qwen3", (r"self_attn\.q_norm\.", r"(^|\.)layers\.\d+\.mlp\.gate_proj\.")),
    ("PaliGemma 2", (r"(^|[./])(vision_tower\.|img/)", r"(^|[./])(post_ffw_norm|post_feedforward_layernorm)([./]|$)")),
    ("Gemma 2", (r"(^|[./])(post_ffw_norm|post_feedforward_layernorm)([./]|$)",)),
    ("Idefics or SmolVLM", (r"(^|\.)text_model\.layers\.", r"(^|\.)(connector|vision_model)\.")),
    ("CLIP or SigLIP, an image encoder with its text encoder", (r"^(\w+\.)*text_model\.", r"^(\w+\.)*vision_model\.")),
    ("SigLIP or CLIP, an image encoder alone", (r"^(\w+\.)*vision_model\.encoder\.layers\.\d+\.",)),
    ("a model with mixtures of experts (Mixtral, Qwen-MoE)", (r"(^|\.)mlp\.experts\.|block_sparse_moe\.",)),
    (
        "a language model by the names that Llama, Mistral and Gemma 1 share, without images",
        (r"^(model\.)?layers\.\d+\.self_attn\.q_proj\.weight$",),
    ),
    ("BERT", (r"(^|\.)encoder\.layer\.\d+\.attention\.self\.query\.",)),
    ("GPT-2", (r"(^|\.)h\.\d+\.attn\.c_attn\.",)),
    ("T5", (r"(^|\.)block\.\d+\.layer\.\d+\.SelfAttention\.",)),
    ("a ResNet", (r"(^|\.)layer[1-4]\.\d+\.conv1\.weight$", r"(^|\.)bn1\.")),
    ("a diffusion model of images", (r"(^|\.)(down_blocks|diffusion_model)\.",)),
)
_COMPILED = tuple((model, tuple(map(re.compile, signs))) for model, signs in _SIGNS)


def neighbor_of(names: Collection[str]) -> Neighbor | None:
    """Return the other model that tensors of these names are of; None if their names prove none.

    Args:
      names: of all tensors, as they are stored.
    """
    for model, signs in _COMPILED:
        found = [next((name for name in names if sign.search(name)), None) for sign in signs]
        if all(name is not None for name in found):
            return Neighbor(model, found[0] or "")
    return None
