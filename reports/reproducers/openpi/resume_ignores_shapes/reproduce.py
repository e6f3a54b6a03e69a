"""openpi: a run is resumed with adapters of another rank than it was started with."""

import sys
import tempfile
import types
from pathlib import Path

try:
    import lerobot.common.datasets.lerobot_dataset
except ImportError:  # openpi's data loader imports it, and nothing here needs it.
    datasets = ("lerobot", "lerobot.common", "lerobot.common.datasets", "lerobot.common.datasets.lerobot_dataset")
    sys.modules |= {name: types.ModuleType(name) for name in datasets}

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from openpi.models import lora
from openpi.training import checkpoints
from openpi.training import config as openpi_config
from openpi.training.utils import TrainState


class NoData:
    """A data loader for saving, which only reads norm stats; it has none."""

    def data_config(self):
        return openpi_config.DataConfig()


def first_state(rank):
    """Return the first state of a training of one of openpi's own layers, with an adapter of this rank."""
    layer = lora.Einsum(shape=(6, 5), lora_config=lora.LoRAConfig(rank=rank, alpha=rank))
    params = layer.init(jax.random.key(0), "BD,DF->BF", jnp.ones((1, 6)))["params"]
    state = nnx.State.from_flat_path({(name,): nnx.VariableState(nnx.Param, x) for name, x in params.items()})
    tx = optax.sgd(0.1)
    graphdef, _ = nnx.split(nnx.Module())  # of no model: a checkpoint holds none
    return TrainState(step=1, params=state, model_def=graphdef, tx=tx, opt_state=tx.init(state), ema_decay=None)


run = Path(tempfile.mkdtemp()) / "run"
manager, _ = checkpoints.initialize_checkpoint_dir(run, keep_period=1, overwrite=False, resume=False)
checkpoints.save_state(manager, first_state(rank=2), NoData(), 1)
manager.wait_until_finished()
try:
    resumed = checkpoints.restore_state(manager, jax.eval_shape(lambda: first_state(rank=4)), NoData())
except Exception as error:
    sys.exit(print(f"right: refused: {error}"))
shape = resumed.params["lora_a"].value.shape
print(f"wrong: resumed with rank 4 in the config, without an error; lora_a is {shape}, of the saved rank 2")
print("right: an error that names lora_a, (6, 2) and (6, 4)")
sys.exit(1)
