"""PaliGemma as Hugging Face publishes it: names that every version of transformers reads, and its ``config.json``.

The names are those before transformers 4.52, which the public releases have and later versions translate. The output
layer is tied to the embedding and is not written a second time. The embedding has the rows that it has: the two
that transformers adds, and those that round them up, hold noise that nothing looks up.
"""

from pathlib import Path
from typing import Any

from suite.reference.layouts.hugging_face import EMBEDDING, NAMINGS
from suite.reference.layouts.torch_rules import Rule, gemma_rules, siglip_rules
from suite.reference.layouts.torch_writing import dtype_name, write_folder
from suite.reference.pi0_config import Pi0Config
from suite.reference.slabs import Parameters
from suite.reference.specs import GemmaSpec, SiglipSpec

_NAMING = NAMINGS["transformers before 4.52"]


def write_hugging_face(source: Parameters, folder: Path, model: Pi0Config) -> None:
    """Write the PaliGemma part of a model as a folder."""
    write_folder(folder, source, _rules(model), _config(model, dtype_name(source.leaves.values())))


def _rules(model: Pi0Config) -> list[Rule]:
    rules = siglip_rules(model.siglip, "PaliGemma/img", _NAMING.vision, _NAMING.projector)
    rules.append(Rule(EMBEDDING, "VD->VD", (f"{_NAMING.language}.embed_tokens.weight",)))
    return rules + gemma_rules(model.paligemma, "PaliGemma/llm", _NAMING.language)


def _config(model: Pi0Config, dtype: str) -> dict[str, Any]:
    """In the words of the public releases."""
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "model_type": "paligemma",
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "hidden_size": model.paligemma.width,
        # The first one behind the vocabulary: <image>.
        "image_token_index": model.vocab_size,
        "projection_dim": model.paligemma.width,
        "text_config": _text_config(model.paligemma, model.vocab_size),
        "vision_config": _vision_config(model.siglip, model),
        "torch_dtype": dtype if dtype != "mixed" else "float32",
    }


def _text_config(gemma: GemmaSpec, vocab_size: int) -> dict[str, Any]:
    return {
        "model_type": "gemma",
        "vocab_size": vocab_size,
        "hidden_size": gemma.width,
        "num_hidden_layers": gemma.depth,
        "intermediate_size": gemma.mlp_dim,
        "num_attention_heads": gemma.num_heads,
        "num_key_value_heads": gemma.num_kv_heads,
        "head_dim": gemma.head_dim,
    }


def _vision_config(siglip: SiglipSpec, model: Pi0Config) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "image_size": model.image_size,
        "patch_size": siglip.patch_size,
        "hidden_size": siglip.width,
        "num_hidden_layers": siglip.depth,
        "intermediate_size": siglip.mlp_dim,
        "num_attention_heads": siglip.num_heads,
        "projection_dim": model.paligemma.width,
        "vision_use_head": False,
    }
