"""lerobot's PI0Policy and PI05Policy: read openpi's PyTorch layout; losses, sampling, tokens.

``from_pretrained`` never raises: it prints what it could not load, and returns the model with fresh weights there. So a
load returns what is in the model, and the contracts compare it.
"""

import functools
import json
from importlib import metadata
from typing import Any

import numpy as np
import torch
from lerobot.policies.pi0 import PI0Config
from lerobot.policies.pi05 import PI05Config

from ._lerobot import at_size, rules_of
from ._tensors import Params, in_openpi_names, params_of, shapes_of, tensors_of, to_numpy, to_torch

NAME = "lerobot"
TRAITS = ("pi0", "pi05", "openpi_pytorch", "float32")
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
PACKAGES = ("lerobot", "transformers", "torch", "safetensors", "numpy")
# The modules' classes have heads; no policy reads one.
UNREAD = tuple(f"model.paligemma_with_expert.{name}.lm_head.weight" for name in ("paligemma", "gemma_expert"))
# One thread: the models are tiny, and other tests run in parallel.
torch.set_num_threads(1)

# Specs, sources and batches are plain data.
Data = dict[str, Any]


def describe() -> Data:
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {"version": packages["lerobot"], "packages": packages, "device": "cpu: torch"}


def param_spec(model: Data) -> Data:
    # The meta device allocates nothing; a whole policy would need a real device.
    with at_size(model) as module, torch.device("meta"):
        core = module.PI0Pytorch if model["family"] == "pi0" else module.PI05Pytorch
        tensors = core(_config(model, "float32")).state_dict()
    return shapes_of({f"model.{name}": tensor for name, tensor in tensors.items()}, rules_of(model))


def init(model: Data, seed: int) -> Params:
    torch.manual_seed(seed)
    return params_of(_fresh(model, "float32").state_dict(), rules_of(model))


def load(model: Data, source: Data, seed: int) -> Data:
    if source["kind"] != "openpi_pytorch":
        raise NotImplementedError(f"lerobot reads openpi's PyTorch layout, not {source['kind']}")
    torch.manual_seed(seed)
    with at_size(model) as module:
        loaded = _policy(module).from_pretrained(source["path"], config=_config(model, "float32"))
    params = params_of(loaded.state_dict(), rules_of(model))
    return {"params": params, "report": None, "nonfinite": None, "warnings": [], "notes": None}


def loss(model: Data, params: Params, batch: Params, noise: Any, time: Any, seed: int) -> np.ndarray:
    policy, actions = _filled(model, params).model, to_torch(batch["actions"])
    torch.manual_seed(seed)
    drawn_noise, drawn_time = policy.sample_noise(actions.shape, "cpu"), policy.sample_time(len(actions), "cpu")
    noise = drawn_noise if noise is None else to_torch(noise)
    time = drawn_time if time is None else to_torch(time)
    with at_size(model), torch.no_grad():
        losses = policy.forward(*_inputs(model, batch), actions, noise, time)
    return to_numpy(losses.mean(-1))


def sample_actions(model: Data, params: Params, batch: Params, noise: np.ndarray, num_steps: int) -> np.ndarray:
    policy = _filled(model, params).model
    return to_numpy(policy.sample_actions(*_inputs(model, batch), noise=to_torch(noise), num_steps=num_steps))


def embed_prefix(model: Data, params: Params, batch: Params) -> np.ndarray:
    with torch.no_grad():
        return to_numpy(_filled(model, params).model.embed_prefix(*_inputs(model, batch)[:4])[0])


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
    }
    return PI0Config(**options) if spec["family"] == "pi0" else PI05Config(**options)


def _policy(module: Any) -> Any:
    return getattr(module, "PI0Policy", None) or module.PI05Policy


def _fresh(spec: Data, dtype: str) -> Any:
    with at_size(spec) as module:
        return _policy(module)(_config(spec, dtype)).eval()


def _filled(model: Data, params: Params) -> Any:
    """Make a policy with these parameters; cached, as making one takes longer than running it."""
    made, rules = _made(json.dumps(model)), rules_of(model)
    tensors = {name: made.get_parameter(name) for name in UNREAD} | tensors_of(params, rules)
    with in_openpi_names(rules):
        made.load_state_dict(tensors)
    return made


@functools.lru_cache(maxsize=8)
def _made(spec: str) -> Any:
    return _fresh(json.loads(spec), json.loads(spec)["dtype"])


def _inputs(model: Data, batch: Params) -> tuple[Any, ...]:
    """Return the arguments of a policy's core. pi05 has the state in its prompt."""
    # Channels come before rows and columns.
    images = [to_torch(batch[f"image/{camera}"]).movedim(-1, 1) for camera in CAMERAS]
    masks = [to_torch(batch[f"image_mask/{camera}"]) for camera in CAMERAS]
    prompt = to_torch(batch["tokenized_prompt"]).long(), to_torch(batch["tokenized_prompt_mask"])
    state = (to_torch(batch["state"]),) if model["family"] == "pi0" else ()
    return (images, masks, *prompt, *state)
