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


class _Signs(NamedTuple):
    """What a model is called, and patterns: each of ``has`` is in some name, and ``lacks`` in none."""

    model: str
    has: tuple[re.Pattern[str], ...]
    lacks: re.Pattern[str] | None


def _signs(model: str, *has: str, lacks: str = "") -> _Signs:
    return _Signs(model, tuple(map(re.compile, has)), re.compile(lacks) if lacks else None)


_TEXT_LAYERS = r"^(model\.|language_model\.|text_model\.)*layers\.\d+\."
_NORMS = rf"{_TEXT_LAYERS}pre_feedforward_layernorm\."
_FLAX_NORMS = r"(^|/)(post_ffw_norm|post_attention_norm)/"
_FLAX_KEYS = r"(^|/)_?(query_norm|key_norm)/"
_IMAGES = r"(^|\.)(vision_tower|vision_model|visual)\."
# What a model of text alone does not have, and what an encoder alone does not have.
_SENSES = r"vision|visual|image|audio|speech|acoustic|tower"
_LANGUAGE = r"language_model|text_model|lm_head|embed_tokens|self_attn\.[qk]_norm"

# The first that fits counts: those that are made of others come first.
_OPTIMIZER = "the state of an optimizer"
_STATES = (
    _signs(_OPTIMIZER, r"(^|[./])(exp_avg|exp_avg_sq|momentum_buffer|max_exp_avg_sq)$"),
    _signs(_OPTIMIZER, r"(^|[./])opt_state([./]|$)"),
    _signs(_OPTIMIZER, r"(^|[./])mu[./]", r"(^|[./])nu[./]"),
    _signs(
        "a normalizer of lerobot (statistics, no model)", r"^(observation|action)[.\w]*\.(mean|std|q01|q99|min|max)$"
    ),
    _signs(
        "FAST's FSQ tokenizer, which openpi's paligemma_vq_droid turns actions into tokens with",
        r"^(params/)?codebook/",
        r"^(params/)?proj_mean/",
        r"^(params/)?decoder/",
    ),
)
_ROBOTS = (
    _signs("transformers' own PI0, PI0ForConditionalGeneration", r"^(model\.)?dit\.", r"(^|\.)vlm\."),
    _signs(
        "pi0-FAST, of lerobot",
        r"(^|\.)paligemma_with_expert\.paligemma\.",
        lacks=r"gemma_expert\.|action_in_proj|action_out_proj|time_mlp",
    ),
    _signs("SmolVLA, of lerobot", r"(^|\.)vlm_with_expert\."),
    _signs("ACT, of lerobot", r"(^|\.)(vae_encoder|decoder_pos_embed|encoder_robot_state_input_proj)[._]"),
    _signs("ACT, of lerobot", r"(^|\.)backbone\.(conv1|layer\d)\b", r"^(model\.)?encoder\.layers\.\d+\."),
    _signs("Diffusion Policy, of lerobot", r"^(model\.)?diffusion\.(unet|rgb_encoder)\."),
    _signs("VQ-BeT, of lerobot", r"^(model\.)?vqbet[._]"),
    _signs("TD-MPC, of lerobot", r"^model(_target)?\._(Qs|dynamics|encoder|reward)\."),
    _signs("X-VLA, of lerobot", r"(^|\.)vlm\.", r"(^|\.)soft_prompt"),
    _signs("WALL-X, of lerobot", r"(^|\.)action_preprocessor\.", r"(^|\.)visual\."),
    _signs("EO-1, of lerobot", r"(^|\.)action_time_mlp_in\.", r"(^|\.)vlm_backbone\."),
    _signs("VLA-JEPA, of lerobot", r"^(model\.)?qwen\.", r"^(model\.)?action_model\."),
    _signs("a Diffusion Transformer policy, of lerobot", r"^noise_predictor\.", r"^observation_encoder\."),
    _signs("GR00T", r"(^|\.)(eagle_model|eagle_linear|action_head\.(action_encoder|state_encoder|model))\b"),
    _signs("OpenVLA", r"(^|\.)vision_backbone\.(fused_)?featurizer\."),
    _signs("Octo", r"(^|/)octo_transformer/"),
)
_WITH_IMAGES = (
    _signs("Gemma 3n", r"(^|[./_])(altup|laurel)([./_]|$)"),
    _signs("Gemma 4", r"(^|[./])(layer_scalar|skip_scale)$"),
    _signs("Gemma 3", _NORMS, rf"{_TEXT_LAYERS}self_attn\.q_norm\."),
    _signs("Gemma 3", _FLAX_NORMS, _FLAX_KEYS),
    _signs("PaliGemma 2", _NORMS, _IMAGES, r"(^|\.)multi_modal_projector\.linear\.", lacks=r"\.experts\."),
    _signs("PaliGemma 2", _FLAX_NORMS, r"(^|/)img/"),
    _signs("Gemma 2", _NORMS, lacks=rf"\.experts\.|{_IMAGES}"),
    _signs("Gemma 2", _FLAX_NORMS, lacks=r"(^|/)img/"),
    _signs("Qwen2-VL or Qwen2.5-VL", r"(^|\.)visual\.merger\.ln_q\."),
    _signs("Qwen3-VL, or a later one of its kind", r"(^|\.)visual\.merger\.linear_fc1\."),
    _signs("InternVL", r"(^|\.)vision_(tower|model)\.encoder\.layers?\.\d+\.(lambda_1|ls1)$"),
    _signs(
        "Idefics or SmolVLM",
        r"(^|\.)text_model\.layers\.",
        r"(^|\.)connector\.(modality_projection|perceiver_resampler)\.",
    ),
    _signs(
        "a model of images and text with a projector of two layers, as LLaVA has it",
        r"(^|\.)(multi_modal_projector\.linear_1|mm_projector\.0)\.",
        _IMAGES,
    ),
    _signs("Florence-2", r"(^|\.)vision_tower\.blocks\.\d+\.\d+\.(spatial|channel)_block\."),
)
_TEXT = (
    _signs("Llama 4", r"(^|\.)layers\.\d+\.feed_forward\.shared_expert\."),
    _signs("a model with mixtures of experts (Mixtral, Qwen-MoE)", r"(^|\.)mlp\.experts\.|block_sparse_moe\."),
    _signs("Phi-3", rf"{_TEXT_LAYERS}self_attn\.qkv_proj\.", rf"{_TEXT_LAYERS}mlp\.gate_up_proj\."),
    _signs(
        "Qwen2 or Qwen2.5, or another language model with biases in its attention",
        rf"{_TEXT_LAYERS}self_attn\.q_proj\.bias$",
        rf"{_TEXT_LAYERS}mlp\.gate_proj\.|^(model\.)?norm\.",
        lacks=_SENSES,
    ),
    _signs(
        "Qwen3, or another language model with norms of queries and keys",
        rf"{_TEXT_LAYERS}self_attn\.q_norm\.",
        rf"{_TEXT_LAYERS}mlp\.gate_proj\.",
        lacks=_SENSES,
    ),
    _signs(
        "a language model by the names that Llama, Mistral and Gemma 1 share, without images",
        rf"{_TEXT_LAYERS}self_attn\.q_proj\.weight$",
        rf"{_TEXT_LAYERS}(mlp\.(gate|up)_proj|input_layernorm)\.|^(model\.)?norm\.",
        lacks=_SENSES,
    ),
    _signs("GPT-2, or a model made like it", r"(^|\.)h\.\d+\.attn\.c_attn\."),
    _signs("T5, or a model made like it", r"(^|\.)block\.\d+\.layer\.\d+\.SelfAttention\."),
    _signs("Mamba", r"(^|\.)layers\.\d+\.mixer\.A_log$", lacks=r"self_attn\.|mixer\.q_proj"),
    _signs("Whisper, or a model of speech made like it", r"(^|\.)encoder\.conv1\.", r"(^|\.)encoder_attn\."),
)
_ENCODERS = (
    _signs("SigLIP with its text encoder, of big_vision", r"(^|/)txt/", r"(^|/)img/"),
    _signs(
        "CLIP or SigLIP, an image encoder with its text encoder", r"^(\w+\.)*text_model\.", r"^(\w+\.)*vision_model\."
    ),
    _signs("BLIP-2, or a model made like it", r"(^|\.)qformer\.", _IMAGES),
    _signs(
        "SigLIP or CLIP, an image encoder alone",
        r"^(vision_model\.|vision_tower\.|model\.)*encoder\.layers\.\d+\.layer_norm1\.",
        r"(^|\.)embeddings\.patch_embedding\.",
        lacks=_LANGUAGE,
    ),
    _signs("BERT, or a model made like it (RoBERTa, ELECTRA)", r"(^|\.)encoder\.layer\.\d+\.attention\.self\.query\."),
    _signs("DINOv2", r"(^|\.)layer\.\d+\.layer_scale1\.|(^|\.)blocks\.\d+\.ls1\."),
    _signs("a vision transformer", r"(^|\.)layer\.\d+\.attention\.attention\.query\.", lacks=_LANGUAGE),
    _signs("a vision transformer", r"(^|\.)blocks\.\d+\.attn\.qkv\.", r"(^|\.)patch_embed\.", lacks=_LANGUAGE),
    _signs("a ResNet", r"(^|\.)layer[1-4]\.\d+\.conv1\.weight$", r"(^|\.)bn1\."),
    _signs("a diffusion model of images", r"(^|\.)(down_blocks|diffusion_model)\."),
)
_ALL = (*_STATES, *_ROBOTS, *_WITH_IMAGES, *_TEXT, *_ENCODERS)


def neighbor_of(names: Collection[str]) -> Neighbor | None:
    """Return the other model that tensors of these names are of; None if their names prove none.

    Args:
      names: of all tensors, as they are stored.
    """
    for model, has, lacks in _ALL:
        found = [next((name for name in names if sign.search(name)), None) for sign in has]
        if all(name is not None for name in found) and not (lacks and any(map(lacks.search, names))):
            return Neighbor(model, found[0] or "")
    return None
