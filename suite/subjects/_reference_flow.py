"""pi0 and pi05 in the reference's harness: loss, actions, tokens and logits, each compiled once for a model.

Compiling takes nearly all the time of tiny models, so it is as quick as possible.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from pi0_compat.model.config import Pi0Config
from pi0_compat.model.pi0 import Pi0, block_mask
from pi0_compat.training.compile_options import quickest


@functools.lru_cache
def compiled_loss(config: Pi0Config) -> Any:
    return jax.jit(
        lambda params, observation, actions, noise, time: _model(config, params).compute_loss(
            jax.random.key(0), observation, actions, noise=noise, time=time
        ),
        compiler_options=quickest(),
    )


@functools.lru_cache
def compiled_sample(config: Pi0Config, num_steps: int) -> Any:
    key = jax.random.key(0)
    return jax.jit(
        lambda params, observation, noise: _model(config, params).sample_actions(
            key, observation, noise=noise, num_steps=num_steps
        ),
        compiler_options=quickest(),
    )


@functools.lru_cache
def compiled_prefix(config: Pi0Config) -> Any:
    return jax.jit(
        lambda params, observation: config.merge(params).embed_prefix(observation)[0],
        compiler_options=quickest(),
    )


@functools.lru_cache
def compiled_logits(config: Pi0Config) -> Any:
    def logits(params: Any, tokens: Any, mask: Any) -> Any:
        llm = config.merge(params).PaliGemma.llm
        embedded, one_block = llm.embed(tokens), jnp.arange(tokens.shape[1]) == 0
        (out, _), _ = llm(
            [embedded, None],
            positions=jnp.cumsum(mask, axis=1) - 1,
            mask=block_mask(mask, one_block),
            conds=[None, None],
        )
        return out @ llm.embedder.input_embedding[...].T

    return jax.jit(logits, compiler_options=quickest())


def _model(config: Pi0Config, params: Any) -> Pi0:
    model = config.merge(params)
    assert isinstance(model, Pi0), config.family
    return model
