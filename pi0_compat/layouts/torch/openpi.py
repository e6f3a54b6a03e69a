"""Read and write openpi's PyTorch layout: a folder with ``model.safetensors``, or shards, and ``config.json``.

The names are those of openpi's ``PI0Pytorch`` (``models_pytorch/pi0_pytorch.py``, ``gemma_pytorch.py`` at 15a9616):
Hugging Face's PaliGemma and Gemma side by side, and the projections. Two tables are special.

PaliGemma's token table is tied to its ``lm_head``. openpi's converter keeps only the ``lm_head`` (docs/bugs.md#g7).
Here only ``embed_tokens`` is written: openpi reads with ``safetensors.torch.load_model``, which calls the second name
of a tied tensor unexpected. The action expert has no token table (docs/bugs.md#p10), but an ``lm_head`` that nothing
uses and without which openpi rejects the file; it is written as zeros (docs/bugs.md#g8).
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.lerobot.recognize import policy_family
from pi0_compat.layouts.torch.not_weights import require_weights
from pi0_compat.layouts.torch.openpi_names import explain_names, plain_name
from pi0_compat.layouts.torch.rules import Rule, gemma_rules, linear, siglip_rules
from pi0_compat.layouts.torch.safetensors_file import FLOATS
from pi0_compat.layouts.torch.safetensors_folder import CONFIG_FILE, open_tensors, recorded_beside
from pi0_compat.layouts.torch.tied import tied_apart
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.params import Leaf
from pi0_compat.paths import TOKEN_TABLE, TORCH_ROOT, looks_like_an_adapter
from pi0_compat.storage.stream import Source, cut
from pi0_compat.text import shorten

_VISION = f"{TORCH_ROOT}.paligemma.model.vision_tower.vision_model"
_PROJECTOR = f"{TORCH_ROOT}.paligemma.model.multi_modal_projector.linear"
_LANGUAGE = f"{TORCH_ROOT}.paligemma.model.language_model"
_EXPERT = f"{TORCH_ROOT}.gemma_expert.model"
TABLE = f"{_LANGUAGE}.embed_tokens.weight"
# lerobot does not tie the tables, and these policies of its never read the second; a full training leaves it behind.
_UNTIED = ("pi0", "pi05")
TIED_TABLE = f"{TORCH_ROOT}.paligemma.lm_head.weight"


_LAYER = re.compile(r"\.layers\.(\d+)\.")


def rules(model: Pi0Spec) -> list[Rule]:
    """Return where every base parameter of the model is in the layout."""
    pi05 = model.family == "pi05"
    found = siglip_rules(model.siglip, "PaliGemma/img", _VISION, _PROJECTOR)
    found.append(Rule(TOKEN_TABLE, "VD->VD", (TABLE,)))
    found += gemma_rules(model.paligemma, "PaliGemma/llm", _LANGUAGE)
    if model.action_expert is None:
        return found
    found += gemma_rules(model.action_expert, "PaliGemma/llm", _EXPERT, "_1", adarms=pi05)
    times = ("time_mlp_in", "time_mlp_out") if pi05 else ("state_proj", "action_time_mlp_in", "action_time_mlp_out")
    for name in ("action_in_proj", "action_out_proj", *times):
        found += linear(name, name)
    return found


def family_of(names: Iterable[str]) -> str | None:
    """Return the family that tensors belong to, from their names alone (docs/bugs.md#g3); None if it is neither."""
    present = {name.partition(".")[0] for name in names}
    if "time_mlp_in" in present:
        return "pi05"
    return "pi0" if "action_time_mlp_in" in present else None


class OpenpiPyTorch(Source):
    """An open checkpoint under openpi's names; a tensor that no rule uses is in ``leaves`` under its own name."""

    def __init__(self, file: Source, model: Pi0Spec, policy: str | None = None) -> None:
        self.path = file.path
        self._policy = policy
        self._file = file
        self._names = _plain_names(file)
        _refuse_strangers(file.path, self._names, model, policy)
        self._settle_tied_table()
        self._shapes = {path: leaf.shape for path, leaf in model.param_spec().items()}
        self._rules = {rule.path: rule for rule in rules(model)}
        self._require_fit(model)
        used = {name for rule in self._rules.values() for name, _ in rule.pieces()}
        self.leaves = {path: self._leaf(rule) for path, rule in self._rules.items()}
        self.leaves |= {name: file.leaves[raw] for name, raw in self._names.items() if name not in used}

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """Return a parameter, assembled from its tensors, in their dtype or cast."""
        rule, leaf = self._rules[path], self.leaves[path]
        found = np.empty(leaf.shape, dtype or leaf.dtype)
        for name, index in rule.pieces():
            rule.place(self._file.read(self._names[name]), found[index])
        return found

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a parameter, assembled from its tensors a few layers at a time."""
        if path not in self._rules:
            return cut(self._file.read(self._names[path]))
        return self._rules[path].slabs(self.leaves[path], lambda name: self._file.read(self._names[name]))

    def _leaf(self, rule: Rule) -> Leaf:
        dtypes = {self._found(name).dtype for name, _ in rule.pieces()}
        # float16 and bfloat16 have no common dtype but float32, and numpy does not find it.
        dtype = np.dtype(np.float32) if len(dtypes) > 1 else dtypes.pop()
        for other in dtypes:
            dtype = np.promote_types(dtype, other)
        return Leaf(self._shapes[rule.path], dtype)

    def _found(self, name: str) -> Leaf:
        return self._file.leaves[self._names[name]]

    def _settle_tied_table(self) -> None:
        """Accept either name of the tied table; reject two tables that differ."""
        if TIED_TABLE not in self._names:
            return
        if TABLE not in self._names:
            self._names[TABLE] = self._names.pop(TIED_TABLE)
            return
        if self._policy in _UNTIED:
            return
        if words := tied_apart(self._file, self._names[TABLE], self._names[TIED_TABLE]):
            raise LoadError(f"{self.path}: {words}")

    def _require_fit(self, model: Pi0Spec) -> None:
        """Reject missing tensors, other shapes, and layers that the model does not have, in one error."""
        lines = [line for rule in self._rules.values() for line in self._misfits(rule)]
        # The experts attend together, so their depth is one.
        depths = {_VISION: model.siglip.depth, _LANGUAGE: model.paligemma.depth, _EXPERT: model.paligemma.depth}
        for name in sorted(self._names):
            layer = _LAYER.search(name)
            depth = next((depth for stack, depth in depths.items() if name.startswith(f"{stack}.")), None)
            if layer and depth is not None and int(layer[1]) >= depth:
                lines.append(f"  + {name}: found layer {int(layer[1])}, the model has {depth}")
        if lines:
            text = "\n".join(shorten(lines))
            raise LoadError(f"{self.path}: the checkpoint does not fit the {model.family} model\n{text}")

    def _misfits(self, rule: Rule) -> Iterator[str]:
        """Yield what is wrong with the tensors of a parameter, a line each."""
        expected = rule.tensor_shape(self._shapes[rule.path])
        for name, _ in rule.pieces():
            if name not in self._names:
                yield f"  - {name} ({rule.path}): expected {list(expected)}, found nothing"
            elif self._found(name).shape != expected or self._found(name).dtype not in FLOATS:
                yield f"  ~ {name} ({rule.path}): expected floats {list(expected)}, found {self._found(name)}"


def open_pytorch(path: Path, model: Pi0Spec, within: Callable[[Source], Source] | None = None) -> OpenpiPyTorch:
    """Open a checkpoint for a model, without reading a tensor other than the tied table.

    Args:
      path: the folder, or the safetensors file or the index of the shards in it.
      model: the model that the checkpoint has to be of; its adapters are ignored.
      within: what is done to the tensors before they are parameters.

    Raises:
      CheckpointError: there is no readable safetensors file, or two tensors have the same name but for a prefix.
      LoadError: the checkpoint is of another family, layout or size, lacks a tensor, or holds unmerged adapters.
    """
    with open_tensors(path) as opened:
        recorded = recorded_beside(path)
        require_weights(opened.path, opened.leaves, recorded)
        tensors = within(opened) if within else opened
        source = OpenpiPyTorch(tensors, model, policy_family(recorded))
    _require_recorded_sizes((path if path.is_dir() else path.parent) / CONFIG_FILE, model)
    return source


def recorded_config(model: Pi0Spec, dtype: str) -> dict[str, Any]:
    """Return ``config.json``: the names that openpi reads, what it forgets (docs/bugs.md#g11), and the whole model.

    Args:
      model: the model written.
      dtype: the name of its dtype, or ``mixed``.
    """
    return {
        "action_dim": model.action_dim,
        "action_horizon": model.action_horizon,
        "max_token_len": model.max_token_len,
        "pi05": model.family == "pi05",
        "precision": dtype,
        "model": model.to_json(),
    }


def _plain_names(file: Source) -> dict[str, str]:
    """Return the name in the file of every tensor, by its name without prefixes."""
    names: dict[str, str] = {}
    for raw in file.leaves:
        name = plain_name(raw)
        if name in names:
            raise CheckpointError(f"{file.path}: {raw} and {names[name]} are the same tensor; only one can be meant")
        names[name] = raw
    return names


def _refuse_strangers(path: Path, names: Mapping[str, str], model: Pi0Spec, policy: str | None) -> None:
    """Reject another layout, another family, and adapters that nobody would apply (docs/bugs.md#g1)."""
    if adapters := [raw for name, raw in names.items() if looks_like_an_adapter(name)]:
        raise LoadError(
            f"{path}: {len(adapters)} adapter matrices have no place in this layout, for example {adapters[0]}; "
            "their fine-tuning would be lost: merge them into the weights first"
        )
    if words := explain_names(names):
        raise LoadError(f"{path}: {words}")
    if not any(name.startswith(f"{TORCH_ROOT}.") for name in names):
        example = f", for example {min(names.values())}" if names else ""
        raise LoadError(
            f"{path}: not one parameter matches: expected tensors below {TORCH_ROOT}, found {len(names)} others"
            f"{example}; for Hugging Face's own PaliGemma use HuggingFaceWeightLoader"
        )
    # Without an action expert, the names of a pi0-FAST are those of a PaliGemma: only its config tells.
    family = family_of(names) or (policy if policy == "pi0_fast" else None)
    if family and family != model.family:
        raise LoadError(
            f"{path}: this is a checkpoint of {family}, the config is {model.family}; choose the config of that family"
        )
    if model.family == "pi0_fast" and policy is None:
        raise LoadError(
            f"{path}: the config is pi0_fast, which openpi does not have in PyTorch; pass its orbax checkpoint"
        )


def _require_recorded_sizes(file: Path, model: Pi0Spec) -> None:
    """Reject recorded sizes that are not the model's: six heads of ten and ten of six have the same shapes."""
    if not file.is_file():
        return
    try:
        recorded = json.loads(file.read_text()).get("model")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{file}: is no config.json of a checkpoint ({error})") from error
    if not isinstance(recorded, dict):
        return  # openpi's own config.json does not have the sizes
    ours = model.to_json()
    lines = []
    for part in ("siglip", "paligemma", "action_expert"):
        for name, want in ours[part].items():
            got = (recorded.get(part) or {}).get(name)
            if name != "lora" and got != want:
                lines.append(f"  ~ {part}.{name}: expected {want}, found {got}")
    if lines:
        raise LoadError(f"{file}: the checkpoint was written for other sizes\n" + "\n".join(lines))
