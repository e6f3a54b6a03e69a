"""openpi: a run whose only saved step is 0 starts over when it is resumed, and nobody is told."""

import sys
import tempfile
import types
from pathlib import Path

try:
    import lerobot.common.datasets.lerobot_dataset
except ImportError:  # openpi's data loader imports it, and nothing here needs it.
    datasets = ("lerobot", "lerobot.common", "lerobot.common.datasets", "lerobot.common.datasets.lerobot_dataset")
    sys.modules |= {name: types.ModuleType(name) for name in datasets}

import jax.numpy as jnp
import optax
from flax import nnx
from openpi.training import checkpoints
from openpi.training import config as openpi_config
from openpi.training.utils import TrainState


class Model(nnx.Module):
    def __init__(self):
        self.weight = nnx.Param(jnp.full((2, 3), 7.0))


class NoData:
    """A data loader for saving, which only reads norm stats; it has none."""

    def data_config(self):
        return openpi_config.DataConfig()


graphdef, params = nnx.split(Model())
tx = optax.sgd(0.1)
state = TrainState(step=0, params=params, model_def=graphdef, tx=tx, opt_state=tx.init(params), ema_decay=None)
run = Path(tempfile.mkdtemp()) / "run"
manager, _ = checkpoints.initialize_checkpoint_dir(run, keep_period=1, overwrite=False, resume=False)
checkpoints.save_state(manager, state, NoData(), 0)
manager.wait_until_finished()
manager.close()

manager, resuming = checkpoints.initialize_checkpoint_dir(run, keep_period=1, overwrite=False, resume=True)
print(f"the run has the steps {list(manager.all_steps())}; step 0 has {sorted(x.name for x in (run / '0').iterdir())}")
manager.close()
if resuming:
    sys.exit(print("right: resuming is True: the run goes on from step 0"))
print(f"wrong: resuming is {resuming}: train.py starts with fresh weights, in the same folder, without an error")
print("right: resuming is True, as there is a step to restore")
sys.exit(1)
