"""alpha and rslora have no effect on the adapters of FeedForward."""

import json
import sys
from pathlib import Path
import numpy as np
import jax
from flax import nnx
from flax.traverse_util import unflatten_dict
from openpi.models import gemma, lora, pi0_config, siglip
from openpi.models import model as openpi_model

def config_of(model):  # openpi has the sizes of its own models hard-coded; these are small ones
    def sizes(variant):
        own = dict(model["paligemma" if "2b" in variant else "action_expert"])
        adapters = {site: lora.LoRAConfig(**x) for site, x in own.pop("lora").items()}
        return gemma.Config(**own, lora_configs=adapters)

    gemma.get_config, gemma.PALIGEMMA_VOCAB_SIZE = sizes, model["vocab_size"]
    siglip.decode_variant = lambda _: model["siglip"] | {"patch_size": tuple(model["siglip"]["patch_size"])}
    openpi_model.IMAGE_RESOLUTION = tuple(model["image"])
    return pi0_config.Pi0Config(**model["config"])

def loss(model, params, batch, seed):  # noise and time come from the seed
    openpi_model.preprocess_observation.__kwdefaults__["image_resolution"] = tuple(model["image"])
    graphdef, state = nnx.split(nnx.eval_shape(config_of(model).create, jax.random.key(0)))
    state.replace_by_pure_dict(unflatten_dict(params, sep="/"))
    tree = unflatten_dict({name: jax.numpy.asarray(x) for name, x in batch.items()}, sep="/")
    observation = openpi_model.Observation.from_dict(tree)
    key, made = jax.random.key(seed), lambda state: nnx.merge(graphdef, state)
    return np.asarray(jax.jit(lambda state: made(state).compute_loss(key, observation, tree["actions"]))(state))

def report(found, right):
    wrong = [name for name in sorted(right) if name not in found or not np.allclose(found[name], right[name], rtol=0.0001, atol=0.0)]
    for name in wrong[:3]:
        x, y = np.asarray(found.get(name, [])), np.asarray(right[name])
        at = np.unravel_index(np.argmax(x != y), y.shape) if x.shape == y.shape else ()
        where = f"{name}{[*map(int, at)] if at else ''}"
        print(f"wrong: {where} is {x[at] if at else 'missing' if name not in found else x.shape}")
        print(f"right: {where} is {y[at] if at else y.shape}")
    print(f"{len(wrong)} of {len(right)} arrays are wrong")
    return int(len(wrong) > 0)

HERE = Path(__file__).parent
MODEL = json.loads((HERE / "input/model.json").read_text())
PARAMS = dict(np.load(HERE / "input/params.npz"))
BATCH = dict(np.load(HERE / "input/batch.npz"))
MODEL_2 = json.loads((HERE / "input/model_2.json").read_text())
PARAMS_2 = dict(np.load(HERE / "input/params_2.npz"))
loss_12 = loss(model=MODEL, params=PARAMS, batch=BATCH, seed=0)
loss_13 = loss(model=MODEL_2, params=PARAMS_2, batch=BATCH, seed=0)
sys.exit(report({"loss": loss_13}, {"loss": loss_12}))
