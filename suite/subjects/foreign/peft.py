"""PEFT's LoRA on transformers' pi0: each of openpi's adapters as the PEFT adapter that computes the same."""

import copy
import functools
import json
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel, get_peft_model
from transformers import PI0ForConditionalGeneration

from . import _pi0
from ._adapters import (
    DEFAULT,
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
from ._loading import load_model
from ._pi0 import UNREAD, file_name, fresh_model, pi0_config, pi0_rules, steps_on
from ._prompt import logits_of
from ._tensors import Params, Rules, Tensors, in_openpi_names, params_of, shapes_of

NAME = "peft"
TRAITS = ("pi0", "lora", "peft_training", "peft_adapter", "saved", "float32")
ROOTS = {"paligemma": "model.vlm.language_model", "action_expert": "model.dit"}
# The folders of a base and of the adapters on it.
BASE, ADAPTER = "base", "adapter"


def describe() -> dict[str, Any]:
    packages = {name: metadata.version(name) for name in ("peft", "transformers", "torch", "numpy")}
    return {"version": packages["peft"], "packages": packages, "device": "cpu: torch"}


def param_spec(model: Any) -> dict[str, Any]:
    # The meta device allocates nothing.
    with torch.device("meta"):
        base, lora = _parted(model, _adapted(model, fresh_model(model)))
    return shapes_of(base, pi0_rules(model)) | shapes_of(lora, _lora_rules(model))


def init(model: Any, seed: int) -> Params:
    torch.manual_seed(seed)
    return _whole(model, _adapted(model, fresh_model(model)))


def load(model: Any, source: Any, seed: int) -> dict[str, Any]:
    if source["kind"] not in ("peft", "saved"):
        raise NotImplementedError(f"PeftModel reads an adapter of its own, not {source['kind']}")
    torch.manual_seed(seed)
    if source["kind"] == "saved":
        params = _saved(model, source["path"], torch.float32)
    else:
        base = _base(source["path"], pi0_config(model), torch.float32)
        # A file has one adapter, whatever the spec's scales.
        params = _read(model, base, source["adapter"], [DEFAULT])
    return {"params": params, "report": None, "nonfinite": None, "warnings": [], "notes": None}


def load_for_inference(model: Any, path: str) -> Params:
    return _saved(model, path, "auto")


def _saved(model: Any, path: str, dtype: Any) -> Params:
    base = _base(str(Path(path) / BASE), None, dtype)
    names = names_of(_adapters(model))
    return (
        _read(model, base, str(Path(path) / ADAPTER), names)
        if names
        else params_of(base.state_dict(), pi0_rules(model))
    )


def save(model: Any, params: Params, path: str) -> None:
    _save(model, _filled(model, params), path)


def _save(model: Any, adapted: Any, path: str) -> None:
    if _adapters(model):
        adapted.save_pretrained(Path(path) / ADAPTER)
        adapted = adapted.unload()
    adapted.save_pretrained(Path(path) / BASE)


def _base(path: str, config: Any, dtype: Any) -> Any:
    return load_model(PI0ForConditionalGeneration, path, config, (file_name(UNREAD),), file_name, dtype)


def _read(model: Any, base: Any, adapter: str, names: list[str]) -> Params:
    adapted = _with_adapter(base, adapter).eval()
    for name in names[1:]:
        adapted.load_adapter(str(Path(adapter) / name), adapter_name=name)
    rules = _lora_rules(model)
    with in_openpi_names(rules):
        known = {name for rule in rules.values() for name in rule.tensor_names()}
        if strangers := adapter_tensors(adapted, names).keys() - known:
            raise ValueError(f"unexpected keys {sorted(strangers)}")
        params = params_of(scaled_tensors(model, ROOTS, adapted, names), rules)
    return params | params_of(adapted.unload().state_dict(), pi0_rules(model))


def _with_adapter(base: Any, adapter: str) -> Any:
    """Load an adapter onto a base.

    Missing tensors do not stop ``from_pretrained``: it warns with their names. A user sees the warning, so it counts as
    an error.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        adapted = PeftModel.from_pretrained(base, adapter)
    if missing := [str(warning.message) for warning in caught if "missing adapter keys" in str(warning.message)]:
        raise ValueError(f"{adapter}: {missing}")
    return adapted


def trainable(model: Any) -> list[str]:
    with torch.device("meta"):
        adapted = _adapted(model, fresh_model(model))
    return trainable_of(adapted, pi0_rules(model) | _lora_rules(model))


def train(model: Any, params: Params, batches: list[Params], options: Any, folder: str | None = None) -> Any:
    require_one_head(_adapters(model))
    module = _filled(model, params).train()
    base = module.get_base_model() if isinstance(module, PeftModel) else module
    result = steps_on(module, base.config, batches, options)
    trained = _whole(model, copy.deepcopy(module))
    if folder:
        _save(model, module, str(Path(folder) / str(len(batches)) / "params"))
    return result | {"params": trained}


def loss(model: Any, params: Params, batch: Params, noise: Any, time: Any, seed: int) -> np.ndarray:
    module = _refilled(model, params)
    # Making a model draws too.
    torch.manual_seed(seed)
    return _pi0.loss(module, batch, noise, time)


def sample_actions(model: Any, params: Params, batch: Params, noise: np.ndarray, num_steps: int) -> np.ndarray:
    return _pi0.sample_actions(_refilled(model, params), batch, noise, num_steps)


def embed_prefix(model: Any, params: Params, batch: Params) -> np.ndarray:
    refilled = _refilled(model, params)
    return _pi0.embed_prefix(refilled.get_base_model() if isinstance(refilled, PeftModel) else refilled, batch)


def prompt_logits(model: Any, params: Params, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    refilled = _refilled(model, params)
    base = refilled.get_base_model() if isinstance(refilled, PeftModel) else refilled
    return logits_of(base.model.vlm.language_model, tokens, mask)


def fold(model: Any, params: Params) -> Params:
    return params_of(_filled(model, params).merge_and_unload().state_dict(), pi0_rules(model))


def unfold(model: Any, params: Params) -> Params:
    filled = _filled(model, params)
    filled.merge_adapter()
    filled.unmerge_adapter()
    return _whole(model, filled)


def extract(model: Any, params: Params) -> dict[str, Params]:
    return _params(model, _filled(model, params))


def merge(model: Any, base: Params, lora: Params) -> Params:
    return _whole(model, _filled(model, base | lora))


def _filled(model: Any, params: Params) -> Any:
    """Make a model with these parameters in their own dtypes, for changing."""
    return _fill(copy.deepcopy(_made(json.dumps(model))), model, params, assign=True)


def _refilled(model: Any, params: Params) -> Any:
    """Make a model with these parameters in its compute dtype; cached, as making one per call would take longer."""
    return _fill(_made(json.dumps(model)), model, params, assign=False)


@functools.lru_cache(maxsize=8)
def _made(spec: str) -> Any:
    model = json.loads(spec)
    return _adapted(model, fresh_model(model, model["dtype"]))


def _fill(made: Any, model: Any, params: Params, *, assign: bool) -> Any:
    return fill(made, _adapters(model), pi0_rules(model), (UNREAD,), params, assign=assign)


def _adapted(model: Any, base: Any) -> Any:
    """Return the base with all adapters of the model, fresh and active; without any, the base."""
    adapters = _adapters(model)
    if not adapters:
        return base
    return add_others(get_peft_model(base, adapters[0].config), adapters).eval()


def _parted(model: Any, adapted: Any) -> tuple[Tensors, Tensors]:
    """Return the tensors of base and adapters; afterwards the model has no adapters."""
    lora = adapter_tensors(adapted, names_of(_adapters(model)))
    return (adapted.unload() if lora else adapted).state_dict(), lora


def _params(model: Any, adapted: Any) -> dict[str, Params]:
    base, lora = _parted(model, adapted)
    return {"base": params_of(base, pi0_rules(model)), "lora": params_of(lora, _lora_rules(model))}


def _whole(model: Any, adapted: Any) -> Params:
    parts = _params(model, adapted)
    return parts["base"] | parts["lora"]


def _lora_rules(model: Any) -> Rules:
    return lora_rules(model, ROOTS)


def _adapters(model: Any) -> list[Adapter]:
    return adapters_of(model, ROOTS)
