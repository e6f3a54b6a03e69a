"""Logits of a prompt, alone or after images, from a Gemma of transformers and its token table."""

from typing import Any

import numpy as np
import torch

from ._tensors import Params, to_numpy, to_torch

# pi0-FAST has other cameras than pi0.
FAST_CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")


def logits_of(gemma: Any, prompt: np.ndarray, mask: np.ndarray, head: Any = None) -> np.ndarray:
    """Return the logits float[b, tokens, vocab]: every real token attends to every real one.

    Args:
      gemma: the language model without an output layer.
      prompt: int[b, tokens].
      mask: bool[b, tokens], false where padded.
      head: the output layer; by default the token table is one.
    """
    real = to_torch(mask)
    allowed = real[:, None, None, :] & real[:, None, :, None]
    with torch.no_grad():
        embedded = gemma.get_input_embeddings()(to_torch(prompt).long())
        out = _run(gemma, embedded, allowed, real.long().cumsum(1) - 1)
        return to_numpy((out @ gemma.get_input_embeddings().weight.T) if head is None else head(out))


def fast_logits_of(gemma: Any, embedded: torch.Tensor, batch: Params, head: Any) -> np.ndarray:
    """Return the logits float[b, tokens, vocab] after each token of a pi0-FAST's prompt, in one pass.

    Mask and positions are openpi's: images and prompt attend to each other, tokens of the actions to those before them,
    and positions are counted by index.

    Args:
      gemma: the language model without an output layer.
      embedded: images of all cameras and prompt [b, all tokens, width].
      batch: has the masks.
      head: the output layer.
    """
    prompt, starts = (to_torch(batch[name]) for name in ("tokenized_prompt_mask", "token_ar_mask"))
    images = embedded.shape[1] - prompt.shape[1]
    cameras = torch.stack([to_torch(batch[f"image_mask/{camera}"]) for camera in FAST_CAMERAS], dim=1)
    real = torch.cat([cameras.repeat_interleave(images // len(FAST_CAMERAS), dim=1), prompt], dim=1)
    block = torch.nn.functional.pad(starts, (images, 0)).cumsum(1)
    allowed = (block[:, None, :] <= block[:, :, None]) & real[:, None, :] & real[:, :, None]
    positions = torch.arange(embedded.shape[1]).expand(len(embedded), -1)
    with torch.no_grad():
        return to_numpy(head(_run(gemma, embedded, allowed[:, None], positions)[:, images:]))


def _run(gemma: Any, embedded: torch.Tensor, allowed: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return the last hidden states of one pass; ``allowed`` is bool[b, 1, tokens, tokens]."""
    dtype = gemma.get_input_embeddings().weight.dtype
    mask = torch.where(allowed, 0.0, torch.finfo(dtype).min).to(dtype)
    out = gemma(inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False)
    hidden: torch.Tensor = out.last_hidden_state
    return hidden
