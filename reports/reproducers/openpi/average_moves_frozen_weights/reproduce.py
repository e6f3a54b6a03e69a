"""openpi: the moving average changes frozen bfloat16 weights, which training never touches."""

import sys
import types
from pathlib import Path

try:
    import lerobot.common.datasets.lerobot_dataset
    import wandb
except ImportError:  # The script imports both, and nothing here needs them.
    datasets = ("lerobot", "lerobot.common", "lerobot.common.datasets", "lerobot.common.datasets.lerobot_dataset")
    sys.modules |= {name: types.ModuleType(name) for name in (*datasets, "wandb")}

import jax
import jax.numpy as jnp
import numpy as np
import openpi
import optax
from flax import nnx
from openpi.models.model import BaseModel, Observation
from openpi.training import config as openpi_config
from openpi.training.utils import TrainState

sys.path.insert(0, str(Path(next(iter(openpi.__path__))).parents[1] / "scripts"))
import train


class Model(BaseModel):
    """One frozen weight in bfloat16, as a LoRA fine-tuning has them, and one that is trained."""

    def __init__(self):
        super().__init__(action_dim=8, action_horizon=3, max_token_len=1)
        self.frozen = nnx.Param(jnp.linspace(0.1, 2.0, 64, dtype=jnp.bfloat16).reshape(8, 8))
        self.trained = nnx.Param(jnp.ones((8, 8)))

    def compute_loss(self, rng, observation, actions, *, train):
        return jnp.mean((observation.state @ self.frozen.value @ self.trained.value - actions[:, 0]) ** 2, axis=-1)

    def sample_actions(self, rng, observation):
        raise NotImplementedError


graphdef, params = nnx.split(Model())
config = openpi_config.TrainConfig(name="average", freeze_filter=nnx.PathContains("frozen"))  # ema_decay is 0.99
tx = optax.sgd(1e-3)
state = TrainState(step=0, params=params, model_def=graphdef, tx=tx, ema_decay=config.ema_decay, ema_params=params,
                   opt_state=tx.init(params.filter(config.trainable_filter)))
step = jax.jit(lambda state, batch: train.train_step(config, jax.random.key(0), state, batch)[0])
for n in range(100):
    state = step(state, (Observation(images={}, image_masks={}, state=jnp.full((4, 8), 0.1)), jnp.ones((4, 3, 8))))

before, after = (np.asarray(x["frozen"].value, np.float32) for x in (state.params, state.ema_params))
wrong = before != after
if not wrong.any():
    sys.exit(print("right: the average of a weight that never changes is that weight"))
at = np.unravel_index(np.argmax(abs(after - before)), before.shape)
print(f"wrong: after 100 steps, the average of the frozen weight is {after[at]} at {[*map(int, at)]}")
print(f"right: the frozen weight itself, {before[at]}")
print(f"{wrong.sum()} of {wrong.size} frozen numbers moved, by {np.linalg.norm(after - before) / np.linalg.norm(before):.1%}")
sys.exit(1)
