"""load_params casts int8 codes to float32 weights."""

import json
import sys
from pathlib import Path
import numpy as np
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from flax import traverse_util
from gemma import gm

def shapes_of(model):
    kinds = (gm.nn.config.AttentionType.GLOBAL,) * model.pop("num_layers")
    config = gm.nn.config.TransformerConfig(**model, attention_types=kinds)
    transformer = gm.nn.Transformer(config=config, dtype=jnp.float32)
    tree = jax.eval_shape(transformer.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: leaf.update(sharding=device), tree)

def flat(tree):
    return {name: np.asarray(x) for name, x in traverse_util.flatten_dict(tree, sep="/").items()}

def load(model, path, seed):
    return flat(gm.ckpts.load_params(path, params=shapes_of(model)))

def stored(path):
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = flat(checkpointer.restore(path))
    names = {name: name.removeprefix("transformer/") for name in tree}
    return {new.removesuffix("/w") if "/mlp/" in new else new: tree[name] for name, new in names.items()}

def describe(stored, loaded, again):
    for name in sorted(stored.keys() | loaded.keys()):
        of_file, x, y = (np.asarray(tree.get(name, [])).ravel() for tree in (stored, loaded, again))
        if name not in loaded:
            print(f"wrong: {name} of the file is nowhere in the model")
        elif not np.array_equal(x, y):
            print(f"wrong: {name} is random, other numbers in each load: {x[x != y][0]}, {y[x != y][0]}")
        elif name in stored and (of_file.dtype.kind in "biuc" or not np.array_equal(of_file, x)):
            at = np.argmax(x != of_file) or np.argmax(abs(of_file))
            print(f"wrong: {name} is {x[at]}, in the file {of_file[at]} ({of_file.dtype})")

HERE = Path(__file__).parent
MODEL = json.loads((HERE / "input/model.json").read_text())
try:
    load_0 = load(model=MODEL, path=HERE / "input/2b", seed=0)
except Exception as error:
    sys.exit(print(f"right: refused: {error}"))
print("wrong: load raises no error", "right: an error that names the cause", sep="\n")
describe(stored(path=HERE / "input/2b"), load_0, load(model=MODEL, path=HERE / "input/2b", seed=1))
sys.exit(1)
