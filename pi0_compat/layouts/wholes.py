"""All names that a whole model has in each layout, for as many layers as a checkpoint shows.

The readers of a layout take their names from the same rules, so what is whole here is what they read.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from pi0_compat.layouts.layout import Layout
from pi0_compat.layouts.majority import unlike
from pi0_compat.layouts.torch.hugging_face import candidates as hugging_face_candidates
from pi0_compat.layouts.torch.openpi import TABLE, TIED_TABLE
from pi0_compat.layouts.torch.openpi import rules as openpi_rules
from pi0_compat.layouts.torch.openpi_names import plain_name
from pi0_compat.layouts.torch.rules import Rule
from pi0_compat.lora.sites import adapter_of
from pi0_compat.model.named import tiny_model
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.model.specs import Family
from pi0_compat.params import Leaf
from pi0_compat.paths import families_of, in_gemma, in_paligemma, is_adapter, looks_like_an_adapter

ADAPTERS_ALONE = "adapters alone"
FAST_OR_PALIGEMMA = "pi0-FAST or PaliGemma"
# A number that no real model has as many layers as: what is above it is no layer.
_MOST_LAYERS = 1000
_LAYER = re.compile(r"\.layers\.(0|[1-9]\d{0,3})\.")
_FLAX_LAYER = re.compile(r"layer_(\d{1,4})/")
_HALF = re.compile(r"(\blora_)([AB])(\b|$)")


class Whole(NamedTuple):
    """A kind of model in a layout.

    Attributes:
      what: the kind, in words.
      names: every name that it has.
      either: pairs of names of which one is enough; the first is the usual one.
      rules: where PyTorch's tensors go; none of other layouts.
    """

    what: str
    names: frozenset[str]
    either: tuple[tuple[str, str], ...] = ()
    rules: tuple[Rule, ...] = ()

    def missing(self, found: Collection[str]) -> list[str]:
        """Return the names that are not found, sorted."""
        lost = [pair[0] for pair in self.either if not any(name in found for name in pair)]
        return sorted([*(self.names - set(found)), *lost])

    def has(self, found: Iterable[str]) -> set[str]:
        """Return those of the names that this kind has."""
        optional = {name for pair in self.either for name in pair}
        return {name for name in found if name in self.names or name in optional}


class Depths(NamedTuple):
    """How many layers a checkpoint should have at least, as recorded beside it; 0 where nothing is."""

    vision: int = 0
    language: int = 0


_NOT_RECORDED = Depths()


def recorded_depths(recorded: Mapping[str, Any]) -> Depths:
    """Return the depths in a ``config.json``: ours has the whole model, transformers' its own terms."""
    model = recorded.get("model")
    ours = model if isinstance(model, Mapping) else {}
    places = (
        (ours.get("siglip"), "depth", recorded.get("vision_config")),
        (ours.get("paligemma"), "depth", recorded.get("text_config")),
    )
    return Depths(*(_number(mine, key) or _number(theirs, "num_hidden_layers") for mine, key, theirs in places))


def _number(part: Any, key: str) -> int:
    found = part.get(key) if isinstance(part, Mapping) else None
    return found if isinstance(found, int) and 0 < found < _MOST_LAYERS else 0


def whole_like(layout: Layout, names: Collection[str], depths: Depths = _NOT_RECORDED) -> Whole:
    """Return the kind of model that names come nearest to: the most of them found, then the fewest missing.

    Args:
      layout: how the checkpoint is stored.
      names: of its arrays; PyTorch's as ``stored_name`` returns them.
      depths: the layers that were recorded, of which the last ones may be missing; of PyTorch's layouts.
    """
    found = set(names)
    return max(
        _candidates(layout, found, depths), key=lambda whole: (len(whole.has(found)), -len(whole.missing(found)))
    )


def stored_name(layout: Layout, name: str) -> str:
    """Return the name of an array without what wrappers around the model put before it."""
    return plain_name(name) if layout in (Layout.OPENPI_PYTORCH, Layout.LEROBOT) else name


def _candidates(layout: Layout, names: set[str], depths: Depths) -> list[Whole]:
    match layout:
        case Layout.OPENPI | Layout.UNKNOWN:
            return _openpi(names)
        case Layout.PALIGEMMA_NPZ:
            return [_tree("PaliGemma", "pi0", names, in_paligemma)]
        case Layout.GEMMA_FLAX:
            return [_gemma_flax(names)]
        case Layout.OPENPI_PYTORCH:
            return [_openpi_pytorch(family, names, depths) for family in ("pi0", "pi05")]
        case Layout.LEROBOT:
            return [_openpi_pytorch(family, names, depths) for family in ("pi0", "pi05", "pi0_fast")]
        case Layout.HUGGING_FACE:
            return _hugging_face(names, depths)
        case Layout.PEFT:
            return [_peft(names)]
    return [Whole("the state of a training", frozenset(names))]


def _openpi(names: set[str]) -> list[Whole]:
    adapters = set(filter(is_adapter, names))
    if adapters and not (names - adapters) & _template("pi0").param_spec().keys():
        halves = {half for adapter in map(adapter_of, adapters) if adapter for half in (adapter.a, adapter.b)}
        return [Whole(ADAPTERS_ALONE, frozenset(halves))]
    allowed = families_of(names)
    every = {
        "pi0": _tree("pi0", "pi0", names, lambda path: True),
        "pi05": _tree("pi05", "pi05", names, lambda path: True),
        "pi0_fast": _tree(FAST_OR_PALIGEMMA, "pi0_fast", names, lambda path: True),
    }
    likely = [whole for family, whole in every.items() if family in allowed or not allowed]
    return [*likely, _tree("Gemma 1", "pi0", names, in_gemma)] if "pi0_fast" in allowed else likely


def _tree(what: str, family: Family, names: set[str], holds: Callable[[str], bool]) -> Whole:
    """Return the names of a family in openpi's tree; of adapters, both halves of those that are there."""
    fused = any("/qkv_einsum" in name for name in names)
    halves = {half for path in filter(is_adapter, names) if (a := adapter_of(path)) for half in (a.a, a.b, a.weight)}
    return Whole(what, frozenset(filter(holds, _template(family, fused=fused).param_spec())) | halves)


@cache
def _template(family: Family, *, fused: bool = False) -> Pi0Spec:
    """Return a small model with the names of its family; as many key/value as query heads share one parameter."""
    model = tiny_model(family)
    if not fused:
        return model
    paligemma = dataclasses.replace(model.paligemma, num_kv_heads=model.paligemma.num_heads)
    expert = model.action_expert and dataclasses.replace(model.action_expert, num_kv_heads=paligemma.num_heads)
    return dataclasses.replace(model, paligemma=paligemma, action_expert=expert)


def _gemma_flax(names: set[str]) -> Whole:
    """Return the names of Gemma's own layout, without ``transformer/``, for as many layers as are numbered."""
    layers = "PaliGemma/llm/layers/"
    paths = _tree("", "pi0", names, in_gemma).names
    numbers = [int(found[1]) for found in map(_FLAX_LAYER.match, names) if found]
    depth = 1 + max((number for number in numbers if number < _MOST_LAYERS), default=0)
    inside = [path.removeprefix(layers) for path in paths if path.startswith(layers)]
    outside = [path.removeprefix("PaliGemma/llm/") for path in paths if not path.startswith(layers)]
    return Whole("Gemma 1", frozenset([*outside, *(f"layer_{n}/{name}" for n in range(depth) for name in inside)]))


def _openpi_pytorch(family: Family, names: set[str], depths: Depths) -> Whole:
    vision = max(depths.vision, _depth(name for name in names if "vision_tower" in name))
    # The experts attend together, so their depth is one.
    language = max(depths.language, _depth(name for name in names if "vision_tower" not in name))
    rules = tuple(rule for rule in openpi_rules(_deep(_template(family), vision, language)) if TABLE not in rule.names)
    return Whole(family, frozenset(_names_of(rules)), ((TABLE, TIED_TABLE),), rules)


def _deep(model: Pi0Spec, vision: int, language: int) -> Pi0Spec:
    paligemma, *expert = (dataclasses.replace(expert, depth=language) for expert in model.experts)
    siglip = dataclasses.replace(model.siglip, depth=vision)
    return dataclasses.replace(model, siglip=siglip, paligemma=paligemma, action_expert=expert[0] if expert else None)


def _depth(names: Iterable[str]) -> int:
    numbers = (int(found[1]) for found in map(_LAYER.search, names) if found)
    return 1 + max((number for number in numbers if number < _MOST_LAYERS), default=0)


def _hugging_face(names: set[str], depths: Depths) -> list[Whole]:
    wholes = []
    for naming, found in hugging_face_candidates(names, _template("pi0")):
        rules = tuple(_at_least(rule, depths) for rule in found.values())
        table = f"{naming.language}.embed_tokens.weight"
        wholes.append(Whole("PaliGemma", frozenset(_names_of(rules)), ((table, naming.head),), rules))
    return wholes


def _at_least(rule: Rule, depths: Depths) -> Rule:
    """Return a rule for as many layers as were recorded."""
    least = depths.vision if rule.path.startswith("PaliGemma/img") else depths.language
    return rule if rule.depth is None else rule._replace(depth=max(rule.depth, least))


def _names_of(rules: Iterable[Rule]) -> Iterable[str]:
    return (name for rule in rules for name, _ in rule.pieces())


def _peft(names: set[str]) -> Whole:
    """Return both halves of every adapter of a PEFT folder."""
    halves = {_HALF.sub(rf"\g<1>{half}\g<3>", name) for name in names if _HALF.search(name) for half in "AB"}
    return Whole(ADAPTERS_ALONE, frozenset(halves))


def is_unmerged(layout: Layout, name: str) -> bool:
    """Return whether an array is a part of an adapter in a layout that has no place for adapters."""
    if layout is Layout.PEFT:
        return False
    if layout is Layout.OPENPI:
        return looks_like_an_adapter(name) and not (is_adapter(name) and adapter_of(name))
    return looks_like_an_adapter(name) or ".base_layer." in name


def layers_apart(rules: Iterable[Rule], leaves: Mapping[str, Leaf]) -> list[str]:
    """Return a line for every tensor that cannot be of its rule: another number of axes, no values, unlike its layers.

    Args:
      rules: of the model's kind.
      leaves: PyTorch's tensors, by their plain names.
    """
    lines = []
    for rule in rules:
        found = {name: leaves[name].shape for name, _ in rule.pieces() if name in leaves}
        odd = {name for name, shape in found.items() if len(shape) != len(rule.groups) or 0 in shape}
        lines += [f"{name}: expected {_axes(len(rule.groups))}, found {leaves[name]}" for name in sorted(odd)]
        alike = {name: shape for name, shape in found.items() if name not in odd}
        kinds: dict[str, list[str]] = {}
        for name in alike:
            kinds.setdefault(name.rpartition(".layers.")[2].partition(".")[2], []).append(name)
        for of_one_kind in kinds.values():
            usual, unequal = unlike({name: alike[name] for name in of_one_kind})
            lines += [
                f"{name}: expected {list(usual)}, as in the other layers, found {leaves[name]}" for name in unequal
            ]
    return lines


def _axes(number: int) -> str:
    return f"{number} ax{'i' if number == 1 else 'e'}s of at least one value"
