"""PaliGemmaWeightLoader accepts a file whose language model has other names, and trains one from random numbers."""

import json
import sys
from pathlib import Path
import numpy as np
import jax
from flax import nnx
from flax.traverse_util import flatten_dict
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

def load(model, path, seed):  # as scripts/train.py: the loader and its check; what is abstract then, training draws
    weight_loaders.download.maybe_download = lambda *_, **__: path  # instead of the release
    shapes = nnx.state(nnx.eval_shape(config_of(model).create, jax.random.key(seed))).to_pure_dict()
    loaded = weight_loaders.PaliGemmaWeightLoader().load(shapes)
    array_typing.check_pytree_equality(expected=shapes, got=loaded, check_shapes=True, check_dtypes=True)
    leaves = flatten_dict(loaded, sep="/").items()
    leaves = [x for x in leaves if x[0].startswith("PaliGemma/") and not ("/llm/" in x[0] and "_1/" in x[0])]
    return {name: None if isinstance(x, jax.ShapeDtypeStruct) else np.asarray(x) for name, x in leaves}

def stored(path):
    with np.load(path) as file:
        return {f"PaliGemma/{name.removeprefix('params/')}": x for name, x in file.items()}

def describe(stored, loaded, again):
    for name in sorted(stored.keys() | loaded.keys()):
        of_file, x, y = (np.asarray(tree.get(name, [])).ravel() for tree in (stored, loaded, again))
        if name not in loaded:
            yield f"wrong: {name} of the file is nowhere in the model"
        elif loaded[name] is None:
            yield f"wrong: {name} is not in the file, so training starts there with random numbers"
        elif name in stored and (of_file.dtype.kind in "biuc" or not np.array_equal(of_file, x)):
            at = np.argmax(x != of_file) or np.argmax(abs(of_file))
            yield f"wrong: {name} is {x[at]}, in the file {of_file[at]} ({of_file.dtype})"

HERE = Path(__file__).parent
MODEL = json.loads((HERE / "input/model.json").read_text())
try:
    load_0 = load(model=MODEL, path=HERE / "input/pt_224.npz", seed=0)
except Exception as error:
    sys.exit(print(f"right: refused: {error}"))
print("wrong: load raises no error", "right: an error that names the cause", sep="\n")
print(*list(describe(stored(path=HERE / "input/pt_224.npz"), load_0, load_0))[:5], sep="\n")
sys.exit(1)
