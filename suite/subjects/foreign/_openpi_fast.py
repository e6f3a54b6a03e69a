"""pi0-FAST in openpi: logits, tokens and embeddings, each compiled once for a model."""

import functools
import json
from typing import Any

from ._openpi_checkout import abstract, at_size, filled, key_of
from ._openpi_inputs import observation_of

# isort: split
import jax
import numpy as np
from flax import nnx
from openpi.models import model as openpi_model
from openpi.models import pi0_fast

Params = dict[str, np.ndarray]
Data = dict[str, Any]


def token_logits(model: Data, params: Params, batch: Params) -> np.ndarray:
    """Return the logits after each token of the prompt, with what ``compute_loss`` passes to the language model.

    openpi returns the loss alone, which has no logits after the last token.
    """
    _, state = filled(model, params)
    with at_size(model):
        return np.asarray(_compiled_logits(key_of(model))(state, observation_of(batch)[0]))


def sample_tokens(model: Data, params: Params, batch: Params, num_steps: int) -> np.ndarray:
    """Return the tokens that ``sample_actions`` writes, in its float32."""
    _, state = filled(model, params)
    with at_size(model):
        return np.asarray(_compiled_tokens(key_of(model), num_steps)(state, observation_of(batch)[0]))


def embed_prefix(model: Data, params: Params, batch: Params) -> np.ndarray:
    """Return the embeddings of images and prompt."""
    _, state = filled(model, params)
    with at_size(model):
        return np.asarray(_compiled_prefix(key_of(model))(state, observation_of(batch)[0]))


def preprocessed(observation: Any) -> Any:
    """Return an observation as the model preprocesses it."""
    return openpi_model.preprocess_observation(None, observation, train=False, image_keys=list(observation.images))


@functools.lru_cache
def _compiled_logits(key: str) -> Any:
    graphdef, _ = abstract(json.loads(key))

    def logits(state: nnx.State, observation: Any) -> Any:
        model = nnx.merge(graphdef, state)
        x, real, starts = model.embed_inputs(preprocessed(observation))
        mask = pi0_fast.make_attn_mask(real, starts)
        hidden, _, _ = model.PaliGemma.llm(embedded_prefix=x, mask=mask, return_prelogits=True)
        return model.PaliGemma.llm(pre_logits=hidden[:, -observation.tokenized_prompt.shape[1] :])[0]

    return jax.jit(logits)


@functools.lru_cache
def _compiled_tokens(key: str, num_steps: int) -> Any:
    graphdef, _ = abstract(json.loads(key))

    def tokens(state: nnx.State, observation: Any) -> Any:
        model = nnx.merge(graphdef, state)
        return model.sample_actions(jax.random.key(0), observation, max_decoding_steps=num_steps)

    return jax.jit(tokens)


@functools.lru_cache
def _compiled_prefix(key: str) -> Any:
    graphdef, _ = abstract(json.loads(key))
    return jax.jit(lambda state, observation: nnx.merge(graphdef, state).embed_inputs(preprocessed(observation))[0])
