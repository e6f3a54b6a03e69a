"""pi0-FAST in the reference's harness: loss, logits and tokens, each compiled once for a model."""

import functools
from typing import Any

import jax

from pi0_compat.model.config import Pi0Config
from pi0_compat.model.pi0 import Observation
from pi0_compat.model.pi0_fast import Pi0Fast
from pi0_compat.training.compile_options import quickest


def loss(config: Pi0Config, params: Any, observation: Observation) -> jax.Array:
    return _loss(config)(params, observation)


def logits(config: Pi0Config, params: Any, observation: Observation) -> jax.Array:
    return _logits(config)(params, observation)


def sample(config: Pi0Config, params: Any, observation: Observation, num_steps: int) -> jax.Array:
    return _sample(config, num_steps)(params, observation)


@functools.lru_cache
def _loss(config: Pi0Config) -> Any:
    def compute(params: Any, observation: Observation) -> jax.Array:
        return _model(config, params).compute_loss(jax.random.key(0), observation)

    return jax.jit(compute, compiler_options=quickest())


@functools.lru_cache
def _logits(config: Pi0Config) -> Any:
    return jax.jit(lambda params, observation: _model(config, params).logits(observation), compiler_options=quickest())


@functools.lru_cache
def _sample(config: Pi0Config, num_steps: int) -> Any:
    def compute(params: Any, observation: Observation) -> jax.Array:
        return _model(config, params).sample_tokens(jax.random.key(0), observation, max_decoding_steps=num_steps)

    return jax.jit(compute, compiler_options=quickest())


def _model(config: Pi0Config, params: Any) -> Pi0Fast:
    model = config.merge(params)
    assert isinstance(model, Pi0Fast), config.family
    return model
