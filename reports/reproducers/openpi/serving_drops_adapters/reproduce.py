"""openpi: a base model takes a LoRA checkpoint for serving, and drops the adapters without a word."""

import dataclasses
import sys

import jax.numpy as jnp
import numpy as np
from flax import nnx
from openpi.models.model import BaseModel, BaseModelConfig, ModelType


class Model(BaseModel):
    """One weight, which the checkpoint has with an adapter."""

    def __init__(self):
        super().__init__(action_dim=1, action_horizon=1, max_token_len=1)
        self.w = nnx.Param(jnp.zeros((4, 4)))

    def compute_loss(self, rng, observation, actions, *, train=False):
        raise NotImplementedError

    def sample_actions(self, rng, observation):
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Config(BaseModelConfig):
    model_type = ModelType.PI0

    def create(self, rng):
        return Model()

    def inputs_spec(self, *, batch_size=1):
        raise NotImplementedError


checkpoint = {"w": np.eye(4, dtype=np.float32), "lora_a": np.full((4, 2), 3, np.float32), "lora_b": np.ones((2, 4), np.float32)}
try:
    # As create_trained_policy calls it: remove_extra_params is True by default.
    model = Config(action_dim=1, action_horizon=1, max_token_len=1).load(checkpoint)
except Exception as error:
    sys.exit(print(f"right: refused: {error}"))
adapted = checkpoint["w"] + checkpoint["lora_a"] @ checkpoint["lora_b"]
print(f"wrong: load raises no error, and the model has {sorted(nnx.state(model).to_pure_dict())} of {sorted(checkpoint)}")
print("right: an error that names lora_a and lora_b, for which the model has no place")
print(f"wrong: its first weight is {model.w.value[0, 0]}")
print(f"right: with the adapter (alpha = rank) it would be {adapted[0, 0]}")
sys.exit(1)
