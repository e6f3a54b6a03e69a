"""Logits of a prompt alone, from a Gemma of transformers and its token table."""

from typing import Any

import numpy as np
import torch

from ._tensors import to_numpy, to_torch


def logits_of(gemma: Any, prompt: np.ndarray, mask: np.ndarray, head: Any = None) -> np.ndarray:
    """Return the logits float[b, tokens, vocab]: every real token attends to every real one.

    Args:
      gemma: the language model without an output layer.
      prompt: int[b, tokens].
      mask: bool[b, tokens], false where padded.
      head: the output layer; by default the token table is one.
    """
    real, table = to_torch(mask), gemma.get_input_embeddings().weight
    lowest = torch.finfo(table.dtype).min
    allowed = real[:, None, None, :] & real[:, None, :, None]
    with torch.no_grad():
        embedded = gemma.get_input_embeddings()(to_torch(prompt).long())
        out = gemma(
            inputs_embeds=embedded,
            attention_mask=torch.where(allowed, 0.0, lowest).to(table.dtype),
            position_ids=real.long().cumsum(1) - 1,
            use_cache=False,
        ).last_hidden_state
        return to_numpy((out @ table.T) if head is None else head(out))
