"""openpi, at small sizes: it has those of its own models hard-coded, in five places."""

from typing import Any

from suite.reproduce.template import Template

SETUP = """
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


def flat(tree):
    return {"/".join(path): np.asarray(x) for path, x in flatten_dict(tree).items()}
"""

LOAD = """
def load(model, path, seed):  # as scripts/train.py: the loader, a check, and from a fresh model what is left out
    fresh = jax.jit(lambda: nnx.state(config_of(model).create(jax.random.key(seed))))()
    shapes = nnx.state(nnx.eval_shape(config_of(model).create, jax.random.key(0))).to_pure_dict()
    loaded = weight_loaders.CheckpointWeightLoader(str(path)).load(shapes)
    array_typing.check_pytree_equality(expected=shapes, got=loaded, check_shapes=True, check_dtypes=True)
    kept = {name: x for name, x in flatten_dict(loaded).items() if not isinstance(x, jax.ShapeDtypeStruct)}
    fresh.replace_by_pure_dict(unflatten_dict(kept))
    return flat(fresh.to_pure_dict())
"""

# What is accepted shows without making a model, which takes minutes to compile.
ACCEPTS = """
def load(model, path, seed):  # as scripts/train.py: the loader and its check; what is abstract then, training draws
    shapes = nnx.state(nnx.eval_shape(config_of(model).create, jax.random.key(seed))).to_pure_dict()
    loaded = weight_loaders.CheckpointWeightLoader(str(path)).load(shapes)
    array_typing.check_pytree_equality(expected=shapes, got=loaded, check_shapes=True, check_dtypes=True)
    leaves = flatten_dict(loaded, sep="/").items()
    return {name: None if isinstance(x, jax.ShapeDtypeStruct) else np.asarray(x) for name, x in leaves}
"""


def _of_paligemma(source: str) -> str:
    """Return a load by openpi's loader of PaliGemma, which downloads a release."""
    loader = "weight_loaders.PaliGemmaWeightLoader()"
    local = "    weight_loaders.download.maybe_download = lambda *_, **__: path  # instead of the release\n"
    # A release has no action expert, which is rightly fresh.
    has = 'x[0].startswith("PaliGemma/") and not ("/llm/" in x[0] and "_1/" in x[0])'
    expert = f"    leaves = [x for x in leaves if {has}]\n"
    source = source.replace("weight_loaders.CheckpointWeightLoader(str(path))", loader)
    return source.replace("    shapes =", f"{local}    shapes =").replace(
        "    return {name: None", f"{expert}    return {{name: None"
    )


RESTORE = """
def restore(path, dtype=None):
    return flat(openpi_model.restore_params(path, restore_type=np.ndarray, dtype=dtype and jax.numpy.dtype(dtype)))
"""

SERVE = """
def load_for_inference(model, path):
    return flat(nnx.state(config_of(model).load(openpi_model.restore_params(path))).to_pure_dict())
"""

INIT = """
def init(model, seed):
    return flat(jax.jit(lambda: nnx.state(config_of(model).create(jax.random.key(seed))))().to_pure_dict())
"""

SPEC = """
def param_spec(model):
    state = nnx.state(nnx.eval_shape(config_of(model).create, jax.random.key(0)))
    return {name: x.shape for name, x in flatten_dict(state.to_pure_dict(), sep="/").items()}
"""

SAVE = """
def save(model, params, path):  # the item "params" of a step, as openpi's save_state writes it
    tree = unflatten_dict({("params", *name.split("/"), "value"): x for name, x in params.items()})
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
"""

LOSS = """
def loss(model, params, batch, seed):  # noise and time come from the seed
    openpi_model.preprocess_observation.__kwdefaults__["image_resolution"] = tuple(model["image"])
    graphdef, state = nnx.split(nnx.eval_shape(config_of(model).create, jax.random.key(0)))
    state.replace_by_pure_dict(unflatten_dict(params, sep="/"))
    tree = unflatten_dict({name: jax.numpy.asarray(x) for name, x in batch.items()}, sep="/")
    observation = openpi_model.Observation.from_dict(tree)
    key, made = jax.random.key(seed), lambda state: nnx.merge(graphdef, state)
    return np.asarray(jax.jit(lambda state: made(state).compute_loss(key, observation, tree["actions"]))(state))
"""

STORED_NPZ = """
def stored(path):
    with np.load(path) as file:
        return {f"PaliGemma/{name.removeprefix('params/')}": x for name, x in file.items()}
"""

STORED = """
def stored(path):
    return flat(openpi_model.restore_params(path, restore_type=np.ndarray))
"""


def _config(spec: Any) -> Any:
    """Return the sizes of openpi's parts, and the options of its Pi0Config."""
    options = {name: spec[name] for name in ("dtype", "action_dim", "action_horizon", "max_token_len")}
    parts: dict[str, Any] = {}
    for name, size in (("paligemma", "2b"), ("action_expert", "300m")):
        adapters = {site: values for site, values in (spec[name]["lora"] or {}).items() if values}
        parts[name] = {**spec[name], "lora": adapters}
        options[f"{name}_variant"] = f"gemma_{size}{'_lora' if adapters else ''}"
    return {
        "config": options | {"pi05": spec["family"] == "pi05", "pytorch_compile_mode": None},
        "vocab_size": spec["vocab_size"],
        "image": [spec["image_size"]] * 2,
        "siglip": spec["siglip"] | {"patch_size": [spec["siglip"]["patch_size"]] * 2},
        **parts,
    }


TEMPLATE = Template(
    packages=("openpi", "jax", "flax", "orbax-checkpoint", "numpy"),
    setup=SETUP,
    calls={
        "load:openpi": LOAD,
        "load:paligemma_npz": _of_paligemma(LOAD),
        "accepts:openpi": ACCEPTS,
        "accepts:paligemma_npz": _of_paligemma(ACCEPTS),
        "stored:openpi": STORED,
        "stored:paligemma_npz": STORED_NPZ,
        "restore": RESTORE,
        "load_for_inference": SERVE,
        "init": INIT,
        "param_spec": SPEC,
        "save": SAVE,
        "loss": LOSS,
    },
    unused=("noise", "time"),
    config=_config,
)
