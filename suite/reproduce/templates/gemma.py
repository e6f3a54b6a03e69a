"""DeepMind's gemma."""

from typing import Any

from fixtures.writers import gemma_flax
from suite.reproduce.template import Arrays, Template

SETUP = """
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
"""

LOAD = """
def load(model, path, seed):
    return flat(gm.ckpts.load_params(path, params=shapes_of(model)))
"""

STORED = """
def stored(path):
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = flat(checkpointer.restore(path))
    names = {name: name.removeprefix("transformer/") for name in tree}
    return {new.removesuffix("/w") if "/mlp/" in new else new: tree[name] for name, new in names.items()}
"""


def _native(spec: Any, params: Arrays) -> Arrays:
    return gemma_flax.arrays(params)


def _config(spec: Any) -> Any:
    sizes = spec["paligemma"]
    # A Gemma of the first version has neither of the last three.
    return {
        "num_embed": spec["vocab_size"],
        "num_layers": sizes["depth"],
        "embed_dim": sizes["width"],
        "hidden_dim": sizes["mlp_dim"],
        "num_heads": sizes["num_heads"],
        "head_dim": sizes["head_dim"],
        "num_kv_heads": sizes["num_kv_heads"],
        "final_logit_softcap": None,
        "use_post_attn_norm": False,
        "use_post_ffw_norm": False,
    }


TEMPLATE = Template(
    packages=("gemma", "jax", "flax", "orbax-checkpoint", "numpy"),
    setup=SETUP,
    calls={"load:gemma_flax": LOAD, "stored:gemma_flax": STORED},
    config=_config,
    native=_native,
)
