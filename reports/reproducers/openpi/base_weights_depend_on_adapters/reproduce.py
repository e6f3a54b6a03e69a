"""The random base weights for a seed depend on whether LoRA is on."""

import json
import sys
from pathlib import Path
import numpy as np
import jax
from flax import nnx
from flax.traverse_util import flatten_dict
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

def flat(tree):
    return {"/".join(path): np.asarray(x) for path, x in flatten_dict(tree).items()}

def init(model, seed):
    return flat(jax.jit(lambda: nnx.state(config_of(model).create(jax.random.key(seed))))().to_pure_dict())

def report(found, right):
    wrong = [name for name in sorted(right) if name not in found or not np.array_equal(found[name], right[name])]
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
MODEL_2 = json.loads((HERE / "input/model_2.json").read_text())
init_0 = init(model=MODEL, seed=0)
init_1 = init(model=MODEL_2, seed=0)
sys.exit(report(init_1, {name: x for name, x in init_0.items() if name in init_1}))
