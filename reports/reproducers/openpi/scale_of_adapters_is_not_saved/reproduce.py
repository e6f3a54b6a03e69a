"""A checkpoint loads with another alpha than it was trained with, without a word."""

import json
import sys
import tempfile
from pathlib import Path
import numpy as np
import jax
import orbax.checkpoint as ocp
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from openpi.models import gemma, lora, pi0_config, siglip
from openpi.models import model as openpi_model
from openpi.shared import array_typing
from openpi.training import weight_loaders

def config_of(model):  # openpi has the sizes of its own models hard-coded; these are small ones
    def sizes(variant):
        own = dict(model["paligemma" if "2b" in variant else "action_expert"])
        adapters = {site: lora.LoRAConfig(**x) for site, x in own.pop("lora").items()}
        return gemma.Config(**own, lora_configs=adapters)

    gemma.get_config, gemma.PALIGEMMA_VOCAB_SIZE = sizes, model["vocab_size"]
    siglip.decode_variant = lambda _: model["siglip"] | {"patch_size": tuple(model["siglip"]["patch_size"])}
    openpi_model.IMAGE_RESOLUTION = tuple(model["image"])
    return pi0_config.Pi0Config(**model["config"])

def save(model, params, path):  # the item "params" of a step, as openpi's save_state writes it
    tree = unflatten_dict({("params", *name.split("/"), "value"): x for name, x in params.items()})
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path, tree)

def load(model, path, seed):  # as scripts/train.py: the loader and its check; what is abstract then, training draws
    shapes = nnx.state(nnx.eval_shape(config_of(model).create, jax.random.key(seed))).to_pure_dict()
    loaded = weight_loaders.CheckpointWeightLoader(str(path)).load(shapes)
    array_typing.check_pytree_equality(expected=shapes, got=loaded, check_shapes=True, check_dtypes=True)
    leaves = flatten_dict(loaded, sep="/").items()
    return {name: None if isinstance(x, jax.ShapeDtypeStruct) else np.asarray(x) for name, x in leaves}

HERE = Path(__file__).parent
WORK = Path(tempfile.mkdtemp())
MODEL = json.loads((HERE / "input/model.json").read_text())
PARAMS = dict(np.load(HERE / "input/params.npz"))
MODEL_2 = json.loads((HERE / "input/model_2.json").read_text())
save_0 = save(model=MODEL, params=PARAMS, path=WORK / "params")
try:
    load_1 = load(model=MODEL_2, path=WORK / "params", seed=0)
except Exception as error:
    sys.exit(print(f"right: refused: {error}"))
print("wrong: load raises no error", "right: an error that names params, alpha, 11.0", sep="\n")
sys.exit(1)
