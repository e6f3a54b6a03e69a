"""Judge a checkpoint by names and shapes: which model it is, whether all of it is there, and what has no place in it.

Every command decides by this, so that all give the same answer; the loaders, which know the model, read the same names.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pi0_compat.diagnosis import generation, later_version
from pi0_compat.errors import LoadError
from pi0_compat.floats import is_float
from pi0_compat.layouts.gemma_flax import layers_unlike, stacked
from pi0_compat.layouts.layout import Layout
from pi0_compat.layouts.neighbors import neighbor_of
from pi0_compat.layouts.sizes import Sizes, model_of, sizes_of
from pi0_compat.layouts.torch.rules import Rule
from pi0_compat.layouts.torch.sizes import torch_sizes
from pi0_compat.layouts.wholes import (
    ADAPTERS_ALONE,
    Whole,
    is_unmerged,
    layers_apart,
    recorded_depths,
    stored_name,
    whole_like,
)
from pi0_compat.lora.sites import adapter_of
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.params import Leaf, differences
from pi0_compat.paths import TOKEN_TABLE, UNUSED_HEAD, detect_family, is_adapter, unused_in
from pi0_compat.text import shorten

UNKNOWN = "unknown"
_ABSENT = "expected, found nothing"
_UNMERGED = "tensors of adapters that are not merged into the weights"
_NO_FLOATS = "expected floats, found "
_TORCH = (Layout.OPENPI_PYTORCH, Layout.LEROBOT, Layout.HUGGING_FACE)
_WORDS = {
    Layout.OPENPI: "in openpi's layout",
    Layout.TRAIN_STATE: "in a run of openpi",
    Layout.GEMMA_FLAX: "for flax",
    Layout.PALIGEMMA_NPZ: "in big_vision's npz",
    Layout.OPENPI_PYTORCH: "in openpi's PyTorch layout",
    Layout.LEROBOT: "of lerobot",
    Layout.HUGGING_FACE: "of Hugging Face",
    Layout.PEFT: "of PEFT",
    Layout.UNKNOWN: "in openpi's layout",
}


class Verdict(NamedTuple):
    """What a checkpoint is.

    Attributes:
      family: the model, or those that the names allow, in words: ``pi0``, ``pi0-FAST or PaliGemma``, ``PaliGemma 2``;
        ``unknown`` if it is no part of a pi0 and no later one of its parts.
      other: the model that an unknown one is by its names, for example SmolVLA; empty if they prove none.
      reason: why no part of a pi0 can be read from it, with what it is nearest to; empty if one can.
      problems: a line for each array that is missing, of another shape, or an adapter that is not merged.
      strays: names of arrays that the model has no place for.
    """

    family: str
    other: str = ""
    reason: str = ""
    problems: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it is a model, or a part of one that is read by itself, and nothing of it is missing."""
        return not self.reason and not self.problems

    @property
    def lacks(self) -> bool:
        """Whether something is missing, which other copies of the files may have."""
        return any(_ABSENT in line for line in self.problems) and not any(_UNMERGED in line for line in self.problems)

    def require_whole(self, path: Path) -> None:
        """Reject a checkpoint of another model, or one that is not whole.

        Args:
          path: the checkpoint, for the message.

        Raises:
          LoadError: it is not whole; the message lists the problems.
        """
        self.require_known(path)
        if self.problems:
            lines = "\n".join(shorten([f"  - {line}" for line in self.problems]))
            raise LoadError(f"{path}: {self._what_is_wrong()}\n{lines}")

    def _what_is_wrong(self) -> str:
        """Return what the problems have in common, and the way out if there is one."""
        if all(_NO_FLOATS in line for line in self.problems):
            number = len(self.problems)
            return (
                f"{number} {'parameter holds' if number == 1 else 'parameters hold'} no floats ({self.family}), and a "
                "cast would be garbage: dequantize with the library that quantized them"
            )
        return f"the checkpoint is not whole ({self.family}){'; get all of its files again' if self.lacks else ''}"

    def require_place(self, path: Path) -> None:
        """Reject arrays that the model has no place for.

        Raises:
          LoadError: there are some.
        """
        if self.strays:
            raise LoadError(
                f"{path}: there is no place for {len(self.strays)} of its parameters ({self.family}), for example "
                f"{self.strays[0]}; leave them out first: pi0-compat convert --to openpi --drop"
            )

    def require_known(self, path: Path) -> None:
        """Reject a checkpoint of another model.

        Raises:
          LoadError: no part of a pi0 can be read from it.
        """
        if self.reason:
            raise LoadError(f"{path}: {self.reason}")


def judge(layout: Layout, leaves: Mapping[str, Leaf], recorded: Mapping[str, Any] | None = None) -> Verdict:
    """Return what a checkpoint is; only names, shapes and what was recorded beside them count.

    Args:
      layout: how it is stored, as ``detect`` returns it.
      leaves: shape and dtype of every array, by the names of its layout; of openpi's and the npz by openpi's names.
      recorded: the ``config.json`` beside PyTorch's tensors.
    """
    named = {stored_name(layout, name): leaf for name, leaf in leaves.items()}
    whole = whole_like(layout, named, recorded_depths(recorded or {}))
    known = whole.has(named)
    spare = unused_in(named) | ({UNUSED_HEAD} & named.keys())
    adapters = {name for name in named if layout is Layout.OPENPI and is_adapter(name) and adapter_of(name)}
    strays = sorted(named.keys() - known - spare - adapters)
    if layout is Layout.TRAIN_STATE:
        return Verdict(whole.what)
    lost = whole.missing(named)
    # A model that is whole may be the smaller part of a file.
    is_foreign = bool(lost) and 2 * len(known) < len(named.keys() - spare - adapters)
    if not named or layout is Layout.UNKNOWN or is_foreign or (lost and _is_another(layout, strays, leaves)):
        return _unknown(layout, leaves)
    if later := later_version(named):
        return Verdict(_later_family(whole, named), reason=later)
    unmerged = sorted(name for name in strays if is_unmerged(layout, name))
    problems = [f"{name}: {_ABSENT}" for name in lost]
    if unmerged:
        problems.append(f"{unmerged[0]}: {len(unmerged)} {_UNMERGED}")
    problems += _misshapen(layout, named, whole, recorded or {})
    problems += _not_weights(named, known | adapters) + _twice(layout, leaves)
    family = _family(layout, whole, named)
    placeless = tuple(name for name in strays if name not in unmerged)
    return Verdict(family, problems=tuple(problems), strays=placeless)


def sizes_in(layout: Layout, leaves: Mapping[str, Leaf], recorded: Mapping[str, Any]) -> Sizes:
    """Return the sizes that the arrays of a layout show; see ``sizes_of`` and ``torch_sizes``."""
    if layout not in _TORCH:
        return sizes_of(stacked(dict(leaves)) if layout is Layout.GEMMA_FLAX else leaves)
    named = {stored_name(layout, name): leaf for name, leaf in leaves.items()}
    if layers_apart(whole_like(layout, named).rules, named) or _flat_tables(named):
        return {}
    return torch_sizes(named, recorded)


def _not_weights(named: Mapping[str, Leaf], known: Collection[str]) -> list[str]:
    """Return a line for every parameter that holds no floats: codes of a quantization, masks, eight-bit floats."""
    return [f"{name}: {_NO_FLOATS}{named[name]}" for name in sorted(known) if not is_float(named[name].dtype)]


def _twice(layout: Layout, leaves: Mapping[str, Leaf]) -> list[str]:
    """Return a line for every two names of one tensor that differ in what wrappers put before it."""
    first: dict[str, str] = {}
    pairs = [(name, first.setdefault(stored_name(layout, name), name)) for name in sorted(leaves)]
    return [f"{name}: the same tensor as {other}; only one can be meant" for name, other in pairs if name != other]


def _flat_tables(named: Mapping[str, Leaf]) -> list[str]:
    """Return a line for every table that is none."""
    tables = {name: leaf for name, leaf in named.items() if name.endswith(("embed_tokens.weight", "lm_head.weight"))}
    return [
        f"{name}: expected 2 axes of at least one value, found {leaf}"
        for name, leaf in tables.items()
        if len(leaf.shape) != 2 or 0 in leaf.shape
    ]


def _is_another(layout: Layout, strays: Collection[str], leaves: Mapping[str, Leaf]) -> bool:
    """Return whether names that this kind of model does not have prove another one, made of parts of the same names."""
    if layout not in _TORCH:
        return False
    other = neighbor_of(leaves)
    own = "paligemma_with_expert." in (other.sign if other else "")
    return other is not None and (own or (layout is Layout.HUGGING_FACE and other.sign in strays))


def _family(layout: Layout, whole: Whole, named: Mapping[str, Leaf]) -> str:
    if layout is not Layout.OPENPI:
        return whole.what
    if whole.what == ADAPTERS_ALONE:
        return f"{ADAPTERS_ALONE}, of {detect_family(named)}"
    return whole.what if whole.what == "Gemma 1" else detect_family(named)


def _later_family(whole: Whole, named: Mapping[str, Leaf]) -> str:
    later = generation(named)
    return "PaliGemma 2" if later == "Gemma 2" and whole.what != "Gemma 1" else later


def _unknown(layout: Layout, leaves: Mapping[str, Leaf]) -> Verdict:
    """Return the verdict on arrays that are no part of a pi0: which other model they are of, if the names prove one."""
    if not leaves:
        return Verdict(UNKNOWN, reason="it has no arrays at all, so it is no model")
    other = neighbor_of([name.removeprefix("PaliGemma/") for name in leaves])
    some = ", ".join(sorted(leaves)[:2])
    what = (
        f"this is {other.model}, by {other.sign}"
        if other
        else f"the names of its arrays, for example {some}, are those of no model that pi0-compat knows"
    )
    near = max(_TORCH if layout in _TORCH else (layout,), key=lambda like: _in_common(like, leaves))
    known, whole = _in_common(near, leaves), _like(near, leaves)
    lost = whole.missing({stored_name(near, name) for name in leaves})
    number = f"{known or 'none'} of the {known + len(lost)} arrays"
    words = f"it has {number} of the nearest, {whole.what} {_WORDS[near]}, and not, for example, {lost[0]}"
    return Verdict(UNKNOWN, other=other.model if other else "", reason=f"{what}; {words}")


def _like(layout: Layout, leaves: Mapping[str, Leaf]) -> Whole:
    return whole_like(layout, {stored_name(layout, name) for name in leaves})


def _in_common(layout: Layout, leaves: Mapping[str, Leaf]) -> int:
    return len(_like(layout, leaves).has(stored_name(layout, name) for name in leaves))


def _misshapen(layout: Layout, named: Mapping[str, Leaf], whole: Whole, recorded: Mapping[str, Any]) -> list[str]:
    """Return a line for every array whose shape no model of these sizes has."""
    if layout is Layout.PEFT or whole.what == ADAPTERS_ALONE:
        return []
    if layout in _TORCH:
        own = whole.has(named)
        odd = layers_apart(whole.rules, named) + _flat_tables({n: leaf for n, leaf in named.items() if n in own})
        if odd or whole.missing(named):
            return odd
        model, _ = _model(torch_sizes(named, recorded), {})
        return _apart_in_torch(model, whole.rules, named) if model else []
    leaves = stacked(dict(named)) if layout is Layout.GEMMA_FLAX else dict(named)
    if whole.missing(named):
        return []
    if unlike := layers_unlike(named) if layout is Layout.GEMMA_FLAX else []:
        return unlike
    model, why = _model(sizes_of(leaves), leaves)
    if model is None:
        return [why]
    spec = {path: leaf for path, leaf in model.param_spec().items() if path in leaves}
    wrong = differences(spec, {path: leaves[path] for path in spec}, dtypes=False)
    return [f"{path}: expected {list(want.shape)}, found {got}" for path, (want, got) in wrong.mismatched.items()]


def _model(sizes: Sizes, leaves: Mapping[str, Leaf]) -> tuple[Pi0Spec | None, str]:
    """Return a model of these sizes, or why there is none."""
    try:
        return model_of(sizes, leaves, "the checkpoint"), ""
    except (LoadError, ValueError) as error:
        return None, f"its shapes are those of no model: {error}"


def _apart_in_torch(model: Pi0Spec, rules: tuple[Rule, ...], named: Mapping[str, Leaf]) -> list[str]:
    shapes = {path: leaf.shape for path, leaf in model.param_spec().items()}
    lines = []
    for rule in rules:
        if rule.path == TOKEN_TABLE or rule.path not in shapes:
            continue
        expected = rule.tensor_shape(shapes[rule.path])
        lines += [
            f"{name}: expected {list(expected)}, found {named[name]}"
            for name, _ in rule.pieces()
            if named[name].shape != expected
        ]
    return lines
