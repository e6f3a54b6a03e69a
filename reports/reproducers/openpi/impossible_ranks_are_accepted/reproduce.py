"""LoRAConfig accepts ranks that cannot be: -1, 0, and more than the weight has."""

import json
import sys
from pathlib import Path
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

def param_spec(model):
    state = nnx.state(nnx.eval_shape(config_of(model).create, jax.random.key(0)))
    return {name: x.shape for name, x in flatten_dict(state.to_pure_dict(), sep="/").items()}

HERE = Path(__file__).parent
MODEL = json.loads((HERE / "input/model.json").read_text())
try:
    param_spec_0 = param_spec(model=MODEL)
except Exception as error:
    sys.exit(print(f"right: refused: {error}"))
print("wrong: param_spec raises no error", "right: an error that names rank, -1", sep="\n")
sys.exit(1)
