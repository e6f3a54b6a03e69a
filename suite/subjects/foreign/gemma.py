"""DeepMind's gemma: official Gemmas for flax, their logits, trees with adapters.

It has no image encoder and no action expert; it has the language model, expert 0. Its own adapters have one rank, no
alpha, and matrices of other shapes than openpi's, so a load leaves them out of its result, and a forward pass has none.
"""

import functools
import json
import re
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from gemma import gm, peft

NAME = "gemma"
TRAITS = ("gemma_flax", "gemma_alone", "saved", "lora", "partial", "float32")
LLM = "PaliGemma/llm/"
PACKAGES = ("gemma", "jax", "flax", "orbax-checkpoint", "numpy")

Params = dict[str, np.ndarray]
# Specs and sources are plain JSON data.
Data = dict[str, Any]


def describe() -> Data:
    packages = {name: metadata.version(name) for name in PACKAGES}
    device = jax.devices()[0]
    return {
        "version": packages["gemma"],
        "packages": packages,
        "device": f"{device.platform}: {device.device_kind}",
    }


def load(model: Data, source: Data, seed: int) -> Data:
    if source["kind"] not in ("gemma_flax", "saved"):
        raise NotImplementedError(f"gemma reads official Gemmas for flax, not {source['kind']}")
    # A model with adapters is loaded without them, as gm.ckpts.SkipLoRA does.
    base = peft.split_params(_abstract(model)).original
    loaded = gm.ckpts.load_params(source["path"], params=base)
    return {"params": _stacked(loaded), "report": None, "nonfinite": None, "warnings": [], "notes": None}


def init(model: Data, seed: int) -> Params:
    transformer, tokens = _transformer(model), jnp.zeros((1, 1), jnp.int32)
    tree = jax.jit(transformer.init)(jax.random.key(seed), tokens)["params"]
    return _flat_lora(_stacked(tree))


def load_for_inference(model: Data, path: str) -> Params:
    return _stacked(gm.ckpts.load_params(path))


def save(model: Data, params: Params, path: str) -> None:
    gm.ckpts.save_params(_layered(params), path, wait_until_finished=True)


def prompt_logits(model: Data, params: Params, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    own = {path: array for path, array in params.items() if path.startswith(LLM) and "_1/" not in path}
    return np.asarray(_logits(json.dumps(model))(_layered(own), tokens, mask))


def extract(model: Data, params: Params) -> Data:
    parts = peft.split_params(_tree(params))
    return {"base": _flat(parts.original), "lora": _flat(parts.lora)}


def merge(model: Data, base: Params, lora: Params) -> Params:
    return _flat(peft.merge_params(_tree(base), _tree(lora)))


def _abstract(model: Data) -> Any:
    """Return shapes and dtypes of the model's parameters in gemma's tree, all float32 as in openpi."""
    tree = jax.eval_shape(_transformer(model).init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    # With a device for each array, a load returns what a jitted init would.
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: leaf.update(sharding=device), tree)


def _transformer(model: Data) -> Any:
    """Return gemma's module; with adapters, of the first rank of the spec."""
    transformer = gm.nn.Transformer(config=_config(model), dtype=jnp.float32)
    lora = model["paligemma"]["lora"]
    if not lora:
        return transformer
    rank = next(site["rank"] for site in lora.values() if site)
    return gm.nn.LoRA(rank=rank, model=transformer, dtype=jnp.float32)


@functools.lru_cache(maxsize=8)
def _logits(spec: str) -> Any:
    """Return the compiled forward pass of a model without adapters."""
    model = json.loads(spec)
    transformer = gm.nn.Transformer(config=_config(model), dtype=jnp.dtype(model["dtype"]))

    def logits(tree: Any, tokens: Any, mask: Any) -> Any:
        positions, allowed = jnp.cumsum(mask, axis=1) - 1, mask[:, None, :] & mask[:, :, None]
        return transformer.apply({"params": tree}, tokens, positions=positions, attention_mask=allowed).logits

    return jax.jit(logits)


def _config(model: Data) -> Any:
    sizes = model["paligemma"]
    return gm.nn.config.TransformerConfig(
        num_embed=model["vocab_size"],
        embed_dim=sizes["width"],
        hidden_dim=sizes["mlp_dim"],
        num_heads=sizes["num_heads"],
        head_dim=sizes["head_dim"],
        num_kv_heads=sizes["num_kv_heads"],
        attention_types=(gm.nn.config.AttentionType.GLOBAL,) * sizes["depth"],
        # Gemma 1 has neither.
        final_logit_softcap=None,
        use_post_attn_norm=False,
        use_post_ffw_norm=False,
    )


def _stacked(tree: Any) -> Params:
    """Return gemma's tree under openpi's names, with the layers of one kind stacked."""
    leaves: Params = {}
    layers: dict[str, dict[int, Any]] = {}
    for name, leaf in traverse_util.flatten_dict(tree, sep="/").items():
        if found := re.match(r"layer_(\d+)/(.*)", name):
            layers.setdefault(found[2], {})[int(found[1])] = leaf
        else:
            leaves[LLM + name] = np.asarray(leaf)
    stacks = {name: np.stack([by_number[n] for n in sorted(by_number)]) for name, by_number in layers.items()}
    return leaves | {f"{LLM}layers/{name}": stack for name, stack in stacks.items()}


def _layered(params: Params) -> Any:
    """Return openpi's parameters in gemma's tree, with a name for each layer."""
    named: Params = {}
    for path, array in params.items():
        name = path.removeprefix(LLM)
        if below := name.partition("layers/")[2]:
            named |= {f"layer_{n}/{below}": layer for n, layer in enumerate(array)}
        else:
            named[name] = array
    return traverse_util.unflatten_dict(named, sep="/")


def _tree(params: Params) -> Any:
    """Return openpi's tree with its adapters where gemma has them: below the name ``lora``."""
    named: Params = {}
    for path, array in params.items():
        renamed = re.sub(r"(\w+)_lora_([ab])$", r"_LoRAEinsum_\1/lora/\2", path)
        named[re.sub(r"/lora_([ab])$", r"/_LoRAEinsum_0/lora/\1", renamed)] = array
    return traverse_util.unflatten_dict(named, sep="/")


def _flat(tree: Any) -> Params:
    """Return such a tree under openpi's names."""
    return _flat_lora(traverse_util.flatten_dict(tree, sep="/"))


def _flat_lora(named: Params) -> Params:
    params = {}
    for name, array in named.items():
        renamed = re.sub(r"/_LoRAEinsum_0/lora/([ab])$", r"/lora_\1", name)
        params[re.sub(r"_LoRAEinsum_(\w+)/lora/([ab])$", r"\1_lora_\2", renamed)] = array
    return params
