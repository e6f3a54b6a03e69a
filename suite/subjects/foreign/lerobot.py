"""lerobot's PI0Policy, PI05Policy and PI0FastPolicy: policy folders, openpi's PyTorch layout, and PEFT's training.

``from_pretrained`` never raises: it prints what it could not load, and returns the model with fresh weights there. So a
load returns what is in the model, and the contracts compare it. A pi0_fast policy adds a BOS to the prompt before it
writes tokens, so it is not asked for openpi's.
"""

import copy
import functools
import json
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.policies.factory import make_policy
from lerobot.policies.pi0 import PI0Config
from lerobot.policies.pi0_fast import PI0FastConfig
from lerobot.policies.pi05 import PI05Config
from peft import PeftModel

from ._adapters import (
    Adapter,
    adapter_tensors,
    adapters_of,
    add_others,
    fill,
    lora_rules,
    names_of,
    require_one_head,
    scaled_tensors,
    trainable_of,
)
from ._lerobot import LM_HEAD, ROOTS, UNREAD, at_size, rules_of
from ._lerobot_acting import run_policy
from ._lerobot_training import run_steps
from ._prompt import FAST_CAMERAS, fast_logits_of, logits_of
from ._tensors import LLM, Params, Rules, Tensors, params_of, shapes_of, to_numpy, to_torch

NAME = "lerobot"
TRAITS = ("pi0", "pi05", "pi0_fast", "lora", "peft_training", "openpi_pytorch", "lerobot", "saved", "float32")
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
PACKAGES = ("lerobot", "transformers", "peft", "torch", "safetensors", "numpy")
# The folders of a base policy and of the adapters on it.
BASE, ADAPTER = "base", "adapter"
# One thread: the models are tiny, and other tests run in parallel.
torch.set_num_threads(1)

# Specs, sources and batches are plain data.
Data = dict[str, Any]


def describe() -> Data:
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {"version": packages["lerobot"], "packages": packages, "device": "cpu: torch"}


def param_spec(model: Data) -> Data:
    base, lora = _parted(model, _fresh(model, "float32", device="meta"))
    return shapes_of(base, rules_of(model)) | shapes_of(lora, _lora_rules(model))


def init(model: Data, seed: int) -> Params:
    torch.manual_seed(seed)
    return _params(model, _fresh(model, "float32"))


def load(model: Data, source: Data, seed: int) -> Data:
    torch.manual_seed(seed)
    if source["kind"] == "saved":
        # A policy is made in the same way for training and for serving.
        params = load_for_inference(model, source["path"])
        return {"params": params, "report": None, "nonfinite": None, "warnings": [], "notes": None}
    with at_size(model) as module:
        if source["kind"] == "openpi_pytorch":
            loaded = _policy(module).from_pretrained(source["path"], config=_config(model, "float32"))
        elif source["kind"] == "lerobot":
            loaded = _policy(module).from_pretrained(source["path"])
            if "adapter" in source:
                loaded = PeftModel.from_pretrained(loaded, source["adapter"]).merge_and_unload()
        else:
            raise NotImplementedError(
                f"lerobot reads its own folders and openpi's PyTorch layout, not {source['kind']}"
            )
    params = _params(model, _wrapped(loaded, _adapters(model), Path(source["path"])))
    return {"params": params, "report": None, "nonfinite": None, "warnings": [], "notes": None}


def load_for_inference(model: Data, path: str) -> Params:
    """Load a policy's folder with the options in it, or adapters and, through them, their base."""
    adapters = _adapters(model)
    folder = Path(path) / ADAPTER if adapters else Path(path)
    config = PreTrainedConfig.from_pretrained(folder)
    config.pretrained_path = folder
    features = {"action": {"dtype": "float32", "shape": (model["action_dim"],), "names": None}}
    with at_size(model):
        policy = make_policy(config, ds_meta=SimpleNamespace(features=features, stats=None))
    for name in names_of(adapters)[1:]:
        policy.load_adapter(folder / name, adapter_name=name)
    lora = scaled_tensors(model, ROOTS, policy, names_of(adapters)) if adapters else {}
    base = _parted(model, policy)[0]
    return params_of(base, rules_of(model)) | params_of(lora, _lora_rules(model))


def save(model: Data, params: Params, path: str) -> None:
    _save(model, _with(model, params), path)


def _save(model: Data, policy: Any, path: str) -> None:
    """Save a policy as a training does; adapters in a folder beside their base."""
    if not _adapters(model):
        policy.save_pretrained(path)
        return
    base, adapter = Path(path) / BASE, Path(path) / ADAPTER
    plain = copy.deepcopy(policy).unload()
    plain.config.use_peft = False
    plain.save_pretrained(base)
    for config in policy.peft_config.values():
        config.base_model_name_or_path = str(base)
    policy.save_pretrained(adapter)
    policy.config.save_pretrained(adapter)


def trainable(model: Data) -> list[str]:
    policy = _fresh(model, "float32", device="meta")
    return trainable_of(policy, rules_of(model) | _lora_rules(model))


def train(model: Data, params: Params, batches: list[Params], options: Data, folder: str | None = None) -> Data:
    require_one_head(_adapters(model))
    if model["family"] == "pi0_fast":
        raise NotImplementedError("lerobot trains pi0_fast on another loss: a mean over a batch's tokens")
    policy = _with(model, params)
    inputs = [_inputs(model, batch) for batch in batches]
    with at_size(model):
        result = run_steps(policy, inputs, [to_torch(batch["actions"]) for batch in batches], options)
    if folder:
        _save(model, policy, str(Path(folder) / str(len(batches)) / "params"))
    return result | {"params": _params(model, policy)}


def loss(model: Data, params: Params, batch: Params, noise: Any, time: Any, seed: int) -> np.ndarray:
    if model["family"] == "pi0_fast":
        return _fast_loss(model, params, batch)
    policy, actions = _core(model, params), to_torch(batch["actions"])
    torch.manual_seed(seed)
    drawn_noise, drawn_time = policy.sample_noise(actions.shape, "cpu"), policy.sample_time(len(actions), "cpu")
    noise = drawn_noise if noise is None else to_torch(noise)
    time = drawn_time if time is None else to_torch(time)
    with at_size(model), torch.no_grad():
        losses = policy.forward(*_inputs(model, batch), actions, noise, time)
    return to_numpy(losses.mean(-1))


def sample_actions(model: Data, params: Params, batch: Params, noise: np.ndarray, num_steps: int) -> np.ndarray:
    policy = _core(model, params)
    return to_numpy(policy.sample_actions(*_inputs(model, batch), noise=to_torch(noise), num_steps=num_steps))


def act(model: Data, path: str, observation: Params, noise: np.ndarray) -> Params:
    config = PreTrainedConfig.from_pretrained(path)
    config.pretrained_path = Path(path)
    features = {"action": {"dtype": "float32", "shape": (model["action_dim"],), "names": None}}
    with at_size(model):
        policy = make_policy(config, ds_meta=SimpleNamespace(features=features, stats=None)).eval()
        return run_policy(policy, _plain(policy).model, config, observation, noise)


def embed_prefix(model: Data, params: Params, batch: Params) -> np.ndarray:
    return to_numpy(_embedded(model, _core(model, params), batch))


def token_logits(model: Data, params: Params, batch: Params) -> np.ndarray:
    """Return the logits of given ids, masks and positions; its own forward pass counts positions otherwise."""
    core = _core(model, params)
    paligemma = core.paligemma_with_expert.paligemma
    return fast_logits_of(paligemma.model.language_model, _embedded(model, core, batch), batch, paligemma.lm_head)


def _embedded(model: Data, core: Any, batch: Params) -> torch.Tensor:
    with torch.no_grad():
        embed = core.embed_prefix_fast if model["family"] == "pi0_fast" else core.embed_prefix
        tokens: torch.Tensor = embed(*_inputs(model, batch)[:4])[0]
        return tokens


def _fast_loss(model: Data, params: Params, batch: Params) -> np.ndarray:
    """Return the loss of a batch, one number. The prompt ends where the first row's actions begin."""
    images, masks, prompt, real = _inputs(model, batch)
    ends = int(batch["token_ar_mask"][0].argmax())
    parts = (prompt[:, :ends], real[:, :ends], prompt[:, ends:], real[:, ends:])
    with torch.no_grad():
        return to_numpy(_core(model, params).forward(images, masks, *parts)["loss"])


def prompt_logits(model: Data, params: Params, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    paligemma = _core(model, params).paligemma_with_expert.paligemma
    return logits_of(paligemma.model.language_model, tokens, mask, paligemma.lm_head)


def _config(spec: Data, dtype: str) -> Any:
    """Return a policy's config. Its dtype is that of its parameters, float32 as in openpi, whatever it computes in."""
    options = {
        "dtype": dtype,
        "chunk_size": spec["action_horizon"],
        "n_action_steps": spec["action_horizon"],
        "max_state_dim": spec["action_dim"],
        "max_action_dim": spec["action_dim"],
        "image_resolution": (spec["image_size"], spec["image_size"]),
        "tokenizer_max_length": spec["max_token_len"],
        "device": "cpu",
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (spec["action_dim"],))},
    }
    return {"pi0": PI0Config, "pi05": PI05Config, "pi0_fast": PI0FastConfig}[spec["family"]](**options)


def _policy(module: Any) -> Any:
    names = ("PI0Policy", "PI05Policy", "PI0FastPolicy")
    return next(getattr(module, name) for name in names if hasattr(module, name))


def _fresh(spec: Data, dtype: str, device: str = "cpu") -> Any:
    """Make a policy, wrapped as for PEFT training if the spec has adapters. The device "meta" allocates nothing."""
    config = _config(spec, dtype)
    config.device = device
    with at_size(spec) as module, torch.device(device):
        policy = _policy(module)(config).eval()
    with torch.device(device):
        return _wrapped(policy, _adapters(spec), Path(BASE))


def _wrapped(policy: Any, adapters: Any, path: Path) -> Any:
    """Give a policy its adapters, if it has any, as its training does after loading the policy from a path."""
    if not adapters:
        return policy
    # Without a path, lerobot takes it for a training from scratch, and refuses.
    policy.config.pretrained_path = path
    return add_others(policy.wrap_with_peft(adapters[0].config), adapters).eval()


def _with(model: Data, params: Params) -> Any:
    """Make a policy with these parameters in their own dtypes, for changing and saving."""
    return _fill(_fresh(model, "float32"), model, params, assign=True)


def _core(model: Data, params: Params) -> Any:
    """Make a policy's core with these parameters; cached, as making one takes longer than running it."""
    return _plain(_fill(_made(json.dumps(model)), model, params, assign=False)).model


def _plain(policy: Any) -> Any:
    return policy.get_base_model() if isinstance(policy, PeftModel) else policy


def _fill(made: Any, model: Data, params: Params, *, assign: bool) -> Any:
    fill(made, _adapters(model), rules_of(model), UNREAD, params, assign=assign)
    # openpi's one table is both of lerobot's.
    _plain(made).get_submodule(LM_HEAD).weight.data.copy_(to_torch(params[f"{LLM}/embedder/input_embedding"]))
    return made


@functools.lru_cache(maxsize=8)
def _made(spec: str) -> Any:
    return _fresh(json.loads(spec), json.loads(spec)["dtype"])


def _params(model: Data, policy: Any) -> Params:
    base, lora = _parted(model, policy)
    return params_of(base, rules_of(model)) | params_of(lora, _lora_rules(model))


def _parted(model: Data, policy: Any) -> tuple[Tensors, Tensors]:
    """Return the tensors of base and adapters; afterwards the policy has no adapters."""
    lora = adapter_tensors(policy, names_of(_adapters(model)))
    return (policy.unload() if lora else policy).state_dict(), lora


def _adapters(model: Data) -> list[Adapter]:
    return adapters_of(model, ROOTS)


def _lora_rules(model: Data) -> Rules:
    return lora_rules(model, ROOTS)


def _inputs(model: Data, batch: Params) -> tuple[Any, ...]:
    """Return the arguments of a policy's core. pi05 has the state in its prompt."""
    # Channels come before rows and columns.
    cameras = FAST_CAMERAS if model["family"] == "pi0_fast" else CAMERAS
    images = [to_torch(batch[f"image/{camera}"]).movedim(-1, 1) for camera in cameras]
    masks = [to_torch(batch[f"image_mask/{camera}"]) for camera in cameras]
    prompt = to_torch(batch["tokenized_prompt"]).long(), to_torch(batch["tokenized_prompt_mask"])
    state = (to_torch(batch["state"]),) if model["family"] == "pi0" else ()
    return (images, masks, *prompt, *state)
