"""A pi0 of transformers, whatever was loaded into it: its config, its inputs, its results."""

from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, PI0Config

from ._hugging_face_sizes import gemma_sizes, siglip_sizes
from ._tensors import VISION_TOWER, Params, Rules, dense, gemma_rules, paligemma_rules, to_numpy, to_torch
from ._trainer import run_steps

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
# The action expert's token table: its class has one, but it only gets embeddings.
UNREAD = "model.dit.embed_tokens.weight"
# The reverse of the renaming in ``from_pretrained``.
FILE_NAMES = {
    "model.dit.embed_tokens": "paligemma_with_expert.gemma_expert.lm_head",
    "model.dit.": "paligemma_with_expert.gemma_expert.model.",
    f"model.vlm.{VISION_TOWER}.": "paligemma_with_expert.paligemma.model.vision_tower.vision_model.",
    "model.vlm.": "paligemma_with_expert.paligemma.model.",
    "embed_action_time.": "",
}
# One thread: the models are tiny, and other tests run in parallel.
torch.set_num_threads(1)


def pi0_rules(spec: Any) -> Rules:
    """Return the rule of every parameter of a pi0 without adapters."""
    rules = paligemma_rules(spec, "model.vlm.") | gemma_rules(spec["action_expert"], "model.dit", "_1")
    rules |= dense("action_out_proj", "action_out_proj")
    for name in ("action_in_proj", "state_proj", "action_time_mlp_in", "action_time_mlp_out"):
        rules |= dense(name, f"embed_action_time.{name}")
    return rules


def paligemma_config(spec: Any, vocab_size: int) -> dict[str, Any]:
    """Return the options of a PaliGemmaConfig."""
    return {
        "model_type": "paligemma",
        "image_token_id": spec["vocab_size"],
        "projection_dim": spec["paligemma"]["width"],
        "text_config": gemma_config(spec["paligemma"], vocab_size),
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": spec["image_size"],
            **siglip_sizes(spec["siglip"]),
            "vision_use_head": False,
        },
    }


def gemma_config(spec: Any, vocab_size: int) -> dict[str, Any]:
    """Return the options of a GemmaConfig."""
    return {
        "model_type": "gemma",
        "vocab_size": vocab_size,
        **gemma_sizes(spec),
        "num_key_value_heads": spec["num_kv_heads"],
    }


def pi0_config(spec: Any) -> PI0Config:
    return PI0Config(
        vlm_config=paligemma_config(spec, spec["vocab_size"]),
        dit_config=gemma_config(spec["action_expert"], spec["vocab_size"]),
        chunk_size=spec["action_horizon"],
        max_state_dim=spec["action_dim"],
        max_action_dim=spec["action_dim"],
        # Contracts compare the loss of every action.
        loss_reduction="none",
    )


def fresh_model(spec: Any, dtype: str = "float32") -> Any:
    """Make a PI0ForConditionalGeneration in one dtype."""
    return AutoModelForImageTextToText.from_config(pi0_config(spec), dtype=getattr(torch, dtype)).eval()


def loss(model: Any, batch: Params, noise: np.ndarray | None, time: np.ndarray | None) -> np.ndarray:
    """Return the loss float[b, horizon]: the mean of the model's losses over an action's dimensions."""
    inputs = _inputs(model, batch) | {
        "actions": to_torch(batch["actions"]).to(model.dtype),
        "noise": None if noise is None else to_torch(noise).to(model.dtype),
        "timestep": None if time is None else to_torch(time),
    }
    with torch.no_grad():
        return to_numpy(model(**inputs).loss.mean(-1))


def steps_on(module: Any, config: Any, batches: list[Params], options: Any) -> dict[str, Any]:
    """Train a model in place, one step per batch; return what ``train`` returns, without the parameters."""
    # As by default, a step's loss is the mean over all numbers.
    config.loss_reduction = "mean"
    model = module.get_base_model() if hasattr(module, "get_base_model") else module
    draws = [options.get(name) for name in ("noise", "time")]
    inputs = []
    for n, batch in enumerate(batches):
        noise, time = (None if draw is None else to_torch(draw[n]) for draw in draws)
        given = {"noise": noise, "timestep": time}
        observed = _inputs(model, batch) | {"actions": to_torch(batch["actions"]).to(model.dtype)}
        inputs.append(observed | {name: x for name, x in given.items() if x is not None})
    absent = dict.fromkeys(("averaged", "compiled", "optimizer_bytes", "device_bytes"))
    return absent | run_steps(module, inputs, options)


def sample_actions(model: Any, batch: Params, noise: np.ndarray, num_steps: int) -> np.ndarray:
    start = to_torch(noise).to(model.dtype)
    return to_numpy(model.sample_actions(**_inputs(model, batch), noise=start, num_steps=num_steps))


def embed_prefix(model: Any, batch: Params) -> np.ndarray:
    """Return the tokens of all cameras as openpi embeds them, masked cameras included."""
    inputs = _inputs(model, {name: np.ones_like(x) if "image_mask" in name else x for name, x in batch.items()})
    names = ("input_ids", "pixel_values", "pixel_attention_mask")
    with torch.no_grad():
        return to_numpy(model.model.embed_prefix(**{name: inputs[name] for name in names}))


def _inputs(model: Any, batch: Params) -> dict[str, torch.Tensor]:
    """Pack a batch as PI0Processor does: a sample's present cameras, its absent ones, its prompt."""
    images = torch.stack([to_torch(batch[f"image/{camera}"]) for camera in CAMERAS], dim=1)
    present = torch.stack([to_torch(batch[f"image_mask/{camera}"]) for camera in CAMERAS], dim=1)
    order = (~present).int().argsort(dim=1, stable=True)
    samples = torch.arange(len(order))[:, None]
    images, present = images[samples, order], present[samples, order]
    prompt, vision = to_torch(batch["tokenized_prompt"]).long(), model.config.vlm_config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    places = present.repeat_interleave(patches, dim=1)
    # Only present cameras have image tokens; the places of the others are masked.
    image_tokens = places.long() * model.config.vlm_config.image_token_id
    return {
        "state": to_torch(batch["state"]).to(model.dtype),
        "input_ids": torch.cat([image_tokens, prompt], dim=1),
        "attention_mask": torch.cat([places, to_torch(batch["tokenized_prompt_mask"])], dim=1).long(),
        # Channels come before rows and columns.
        "pixel_values": images.movedim(-1, 2).to(model.dtype),
        "pixel_attention_mask": present,
    }


def file_name(tensor: str) -> str:
    """Return the name in openpi's PyTorch layout of a tensor of the model."""
    start = next((start for start in FILE_NAMES if tensor.startswith(start)), "")
    return FILE_NAMES.get(start, "") + tensor.removeprefix(start)
