"""openpi, from its checkout, at the sizes of a spec.

openpi hard-codes its sizes. They are replaced by the spec's while a model is built or traced, and restored afterwards.
No code path changes. A spec with openpi's own vocabulary has real sizes, and nothing is replaced.
"""

import contextlib
import functools
import hashlib
import importlib.util
import inspect
import json
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

# openpi's training imports these for its data sets and its logging only; ``uv sync`` installs both.
for _name in ("lerobot.common.datasets.lerobot_dataset", "wandb"):
    if importlib.util.find_spec(_name.partition(".")[0]) is None:
        for _end in range(_name.count(".") + 1):
            _part = ".".join(_name.split(".")[: _end + 1])
            sys.modules[_part] = types.ModuleType(_part)

import jax
import ml_collections
import numpy as np
import openpi
from flax import nnx, traverse_util
from openpi.models import gemma, gemma_fast, lora, pi0_config, pi0_fast, siglip
from openpi.models import model as openpi_model

# jax 0.5.3 computes wrong numbers on the CPU with programs from its persistent cache: jax.random.beta gives 0.636 for
# every key, and some params come out of init_train_state changed.
jax.config.update("jax_enable_compilation_cache", False)

ROOT = Path(next(iter(openpi.__path__))).parents[1]
PALIGEMMA_VARIANTS = ("gemma_2b", "gemma_2b_lora")
REAL_VOCABULARY = gemma.PALIGEMMA_VOCAB_SIZE


def version() -> str:
    """Return the checkout's commit, with a + if files differ from it; without git, a digest of the source."""
    git = ["git", f"--git-dir={ROOT / '.git'}", f"--work-tree={ROOT}"]
    git += ["describe", "--always", "--abbrev=7", "--dirty=+", "--exclude=*"]
    described = subprocess.run(git, capture_output=True, check=False, text=True)
    source = b"".join(file.read_bytes() for file in sorted(ROOT.glob("src/**/*.py")))
    return described.stdout.strip() or f"source-{hashlib.sha256(source).hexdigest()[:7]}"


def describe() -> dict[str, Any]:
    """Return the checkout's version, those of the packages under it, and the device."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch", "transformers")
    device = jax.devices()[0]
    return {
        "version": version(),
        "packages": {name: metadata.version(name) for name in packages},
        "device": f"{device.platform}: {device.device_kind}",
    }


def script(path: str) -> Any:
    """Import a script of the checkout as a module."""
    spec = importlib.util.spec_from_file_location(f"openpi_{Path(path).stem}", ROOT / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config_of(model: dict[str, Any]) -> openpi_model.BaseModelConfig:
    """Return openpi's config for a spec; the name of a variant with adapters decides what is frozen."""
    sizes = {name: model[name] for name in ("dtype", "action_dim", "action_horizon", "max_token_len")}
    sizes["paligemma_variant"] = "gemma_2b_lora" if model["paligemma"]["lora"] else "gemma_2b"
    if model["family"] == "pi0_fast":
        return pi0_fast.Pi0FASTConfig(**sizes)
    return pi0_config.Pi0Config(
        **sizes,
        pi05=model["family"] == "pi05",
        action_expert_variant="gemma_300m_lora" if model["action_expert"]["lora"] else "gemma_300m",
        pytorch_compile_mode=None,
    )


@contextlib.contextmanager
def at_size(model: dict[str, Any]) -> Iterator[None]:
    """Give openpi the sizes of the spec in the body."""
    _name_frames()
    if model["vocab_size"] == REAL_VOCABULARY:
        yield
        return
    resolution = (model["image_size"], model["image_size"])
    vit = model["siglip"] | {"patch_size": (model["siglip"]["patch_size"],) * 2}
    of_images = {"image_resolution": resolution}
    with (
        mock.patch.object(gemma, "get_config", functools.partial(_gemma_config, model)),
        mock.patch.object(gemma_fast, "get_config", functools.partial(_fast_config, model)),
        mock.patch.object(gemma, "PALIGEMMA_VOCAB_SIZE", model["vocab_size"]),
        mock.patch.object(siglip, "decode_variant", return_value=vit),
        mock.patch.object(openpi_model, "IMAGE_RESOLUTION", resolution),
        mock.patch.dict(openpi_model.preprocess_observation.__kwdefaults__, of_images),
    ):
        yield


def _name_frames() -> None:
    """Say which modules the frames below belong to.

    openpi looks through the whole stack whenever it makes one of its checked dataclasses (array_typing), and for each
    frame without a file ``inspect`` searches all modules anew: nine tenths of the time of a trace.
    """
    frame: types.FrameType | None = sys._getframe()
    while frame:
        name = frame.f_globals.get("__name__", "__main__")
        inspect.modulesbyfile.setdefault(frame.f_code.co_filename, name)
        frame = frame.f_back


def _gemma_config(model: dict[str, Any], variant: str) -> gemma.Config:
    return gemma.Config(**_sizes_of(model["paligemma" if variant in PALIGEMMA_VARIANTS else "action_expert"]))


def _fast_config(model: dict[str, Any], variant: str) -> ml_collections.ConfigDict:
    """Return what ``gemma_fast.get_config`` returns, with the spec's sizes in place of its own."""
    options = {"norm_eps": 1e-6, "scan": True, "remat_policy": "nothing_saveable"}
    sizes = _sizes_of(model["paligemma"]) | {"variant": variant, "vocab_size": model["vocab_size"]}
    return ml_collections.ConfigDict(sizes | options)


def _sizes_of(expert: dict[str, Any]) -> dict[str, Any]:
    sizes = dict(expert)
    sites = (sizes.pop("lora") or {}).items()
    return sizes | {"lora_configs": {site: lora.LoRAConfig(**values) for site, values in sites if values}}


def key_of(model: dict[str, Any]) -> str:
    """Return a spec as a hashable key."""
    return json.dumps(model, sort_keys=True)


@functools.lru_cache
def _abstract(key: str) -> tuple[nnx.GraphDef, nnx.State]:
    model = json.loads(key)
    with at_size(model):
        return nnx.split(nnx.eval_shape(config_of(model).create, jax.random.key(0)))


def abstract(model: dict[str, Any]) -> tuple[nnx.GraphDef, nnx.State]:
    """Return the model's definition, and a new abstract state."""
    graphdef, state = _abstract(key_of(model))
    return graphdef, jax.tree.map(lambda x: x, state)


def filled(model: dict[str, Any], params: dict[str, np.ndarray]) -> tuple[nnx.GraphDef, nnx.State]:
    """Return the model's definition, and a state with these values, filled as openpi's ``config.load`` does."""
    graphdef, state = abstract(model)
    state.replace_by_pure_dict(nested(params))
    return graphdef, state


def nested(params: dict[str, Any]) -> Any:
    """Return openpi's tree for flat params."""
    return traverse_util.unflatten_dict(params, sep="/")


def flat(tree: Any, leaf: Callable[[Any], Any] = np.asarray) -> dict[str, Any]:
    """Return flat params of openpi's tree or model state; ``leaf`` converts every leaf."""
    tree = tree.to_pure_dict() if isinstance(tree, nnx.State) else tree
    return {_joined(path): leaf(value) for path, value in traverse_util.flatten_dict(tree).items()}


def _joined(path: tuple[Any, ...]) -> str:
    return "/".join(str(name).replace("~", "~0").replace("/", "~1") for name in path)
