"""Read the official Gemma release for flax: an orbax tree with the layers side by side, not stacked.

There are two forms (google-deepmind/gemma ``gm/ckpts/_checkpoint.py``). FLAT, as Google released it, has slashes in
its keys: ``{"transformer/layer_0/attn/q_einsum": {"w": ...}, "transformer/layer_0/mlp/linear": {"w": ...}}``. NESTED is
what flax makes: ``{"layer_0": {"attn": {"q_einsum": {"w": ...}}, "mlp": {"linear": ...}}}``. Joined by slashes, and
without ``transformer/`` and the ``w`` of ``mlp``, both have the same names. The arrays of a layer are openpi's, so they
only have to be stacked in the order of the layers' numbers.
"""

import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pi0_compat import params as tree
from pi0_compat.diagnosis import later_version
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.majority import unlike
from pi0_compat.layouts.orbax.item import item_metadata
from pi0_compat.layouts.orbax.metadata import Metadata
from pi0_compat.layouts.orbax.read import restore_leaves
from pi0_compat.model.pi0_spec import Pi0Spec
from pi0_compat.params import Leaf
from pi0_compat.paths import TOKEN_TABLE, looks_like_an_adapter
from pi0_compat.storage.stream import Source, cut, rows_at_a_time
from pi0_compat.text import shorten

_LLM = "PaliGemma/llm"
_LAYERS = f"{_LLM}/layers"
_ATTENTION = f"{_LAYERS}/attn"
_LAYER = re.compile(r"layer_(\d+)/(.+)")
_OUTSIDE = ("embedder/input_embedding", "final_norm/scale")


class GemmaFlax(Source):
    """An open Gemma under openpi's names; arrays that Gemma 1 does not have are in ``leaves`` under their own names."""

    def __init__(self, stored: Metadata) -> None:
        self.path = stored.path
        self._stored = stored
        self._stacking = threading.Lock()
        # Parameter -> layer -> name of the array; outside of the layers the only name is that of layer 0.
        self._places: dict[str, dict[int, str]] = defaultdict(dict)
        for name in stored.leaves:
            path, layer = _place(name)
            self._places[path][layer] = name
        _refuse_other_layouts(stored)
        _require_all_layers(stored.path, self._places)
        if unlike := [text for path in sorted(self._places) if (text := self._unlike(path))]:
            raise LoadError(f"{self.path}: " + "\n".join(unlike))
        self.leaves: dict[str, Leaf] = {path: self._leaf(path) for path in sorted(self._places)}

    def read(self, path: str, dtype: np.dtype | None = None) -> np.ndarray:
        """Return a parameter, its layers stacked in the order of their numbers, in the stored dtype or cast."""
        # One at a time: all layers are in memory twice while they are stacked, and all cores read them anyway.
        with self._stacking:
            arrays = restore_leaves(self._stored, dict.fromkeys(self._names(path), dtype))
            in_order = [arrays.pop(name) for name in self._names(path)]
            return np.stack(in_order) if _is_stacked(path) else np.asarray(in_order[0])

    def slabs(self, path: str) -> Iterator[np.ndarray]:
        """Yield a parameter a few layers at a time, in the stored dtype."""
        names, leaf = self._names(path), self.leaves[path]
        if not _is_stacked(path):
            yield from cut(restore_leaves(self._stored, {names[0]: None})[names[0]])
            return
        for layers in rows_at_a_time(leaf):
            arrays = restore_leaves(self._stored, dict.fromkeys(names[layers]))
            yield np.stack([arrays[name] for name in names[layers]])

    def _names(self, path: str) -> list[str]:
        return [name for _, name in sorted(self._places[path].items())]

    def _unlike(self, path: str) -> str:
        """Return the layers of a parameter, as text, if they differ; empty if they are alike."""
        leaves = [self._stored.leaves[name] for name in self._names(path)]
        if len(set(leaves)) > 1:
            lines = [f"  ~ {name}: {leaf}" for name, leaf in zip(self._names(path), leaves, strict=True)]
            return "\n".join([f"the layers of {path} are not alike", *shorten(lines)])
        return ""

    def _leaf(self, path: str) -> Leaf:
        leaves = [self._stored.leaves[name] for name in self._names(path)]
        return Leaf((len(leaves), *leaves[0].shape), leaves[0].dtype) if _is_stacked(path) else leaves[0]


def open_gemma(folder: Path) -> GemmaFlax:
    """Open an official Gemma checkpoint: names, shapes and dtypes, no array.

    Args:
      folder: the local folder of the tree, as ``detect`` or ``find_params`` returns it.

    Raises:
      CheckpointError: the checkpoint is damaged or incomplete.
      LoadError: it is another version of Gemma, another layout, holds adapters, or lacks layers.
    """
    try:
        flat = tree.flatten(item_metadata(folder).tree)
    except Exception as error:  # orbax raises all kinds
        raise CheckpointError(f"{folder}: the checkpoint is damaged or incomplete ({error})") from error
    names = {_plain_name(raw): raw for raw in flat}
    if len(names) != len(flat):
        raise CheckpointError(f"{folder}: two arrays have the same name; get the checkpoint again")
    leaves = {name: tree.leaf_of(flat[raw]) for name, raw in sorted(names.items())}
    return GemmaFlax(Metadata(folder, leaves, {name: tree.split(raw) for name, raw in names.items()}, {}))


def stacked(arrays: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Return the arrays of any Gemma under openpi's names, for display: layers are counted, and not compared."""
    layers: dict[str, set[int]] = defaultdict(set)
    shapes: dict[str, Leaf] = {}
    for raw, leaf in arrays.items():
        path, layer = _place(_plain_name(raw))
        layers[path].add(layer)
        shapes[path] = leaf
    return {
        path: Leaf((len(layers[path]), *leaf.shape), leaf.dtype) if _is_stacked(path) else leaf
        for path, leaf in sorted(shapes.items())
    }


def layers_unlike(arrays: Mapping[str, Leaf]) -> list[str]:
    """Return a line for every array whose shape or dtype is not that of the other layers: they are stacked."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(arrays):
        alike[_place(_plain_name(name))[0]].append(name)
    lines = []
    for names in alike.values():
        usual, odd = unlike({name: arrays[name] for name in names})
        lines += [f"{name}: expected {usual}, as in the other layers, found {arrays[name]}" for name in odd]
    return lines


def require_sizes(source: Source, model: Pi0Spec) -> None:
    """Reject a Gemma whose sizes are not those of the model's language model, by the names of the sizes.

    Args:
      source: the open Gemma.
      model: the model to load into.

    Raises:
      LoadError: a size differs.
    """
    found, expected = _sizes(source.leaves), _sizes(_shapes(model))
    lines = [
        f"  ~ {name}: expected {expected[name]}, found {found[name]}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    if found.get("vocab_size", 0) < expected["vocab_size"] and len(lines) == 1:
        lines.append("  for fresh rows of the missing tokens: GemmaWeightLoader(path, extend_vocabulary=True)")
    if lines:
        raise LoadError(f"{source.path}: a Gemma of other sizes than the config's language model\n" + "\n".join(lines))


def plain_names(arrays: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Return the arrays of any Gemma by the names that they have in both forms."""
    return {_plain_name(raw): leaf for raw, leaf in sorted(arrays.items())}


def _place(name: str) -> tuple[str, int]:
    """Return the openpi parameter that an array belongs to, and its layer; an unknown array keeps its name."""
    if layer := _LAYER.fullmatch(name):
        return f"{_LAYERS}/{layer[2]}", int(layer[1])
    return (f"{_LLM}/{name}" if name in _OUTSIDE else name), 0


def _is_stacked(path: str) -> bool:
    return path.startswith(f"{_LAYERS}/")


def _plain_name(raw: str) -> str:
    """Return the name that an array has in both forms."""
    name = "/".join(tree.split(raw)).removeprefix("transformer/")
    return name.removesuffix("/w") if "/mlp/" in name else name


def _refuse_other_layouts(stored: Metadata) -> None:
    names = stored.leaves
    if any(name.startswith("params/") for name in names):
        raise LoadError(f"{stored.path}: is no official Gemma; for a pi0 checkpoint use CheckpointWeightLoader")
    if version := later_version(names):
        raise LoadError(f"{stored.path}: {version}")
    if adapters := [name for name in names if looks_like_an_adapter(name)]:
        raise LoadError(
            f"{stored.path}: {len(adapters)} adapter matrices, for example {adapters[0]}, would be lost; "
            "merge them into the weights first"
        )


def _require_all_layers(path: Path, places: Mapping[str, Mapping[int, str]]) -> None:
    """Require that layers are numbered without a gap, and that each has every array that another one has."""
    stacked = {place: layers for place, layers in places.items() if _is_stacked(place)}
    depth = 1 + max((number for layers in stacked.values() for number in layers), default=-1)
    lines = [
        f"  - {place.replace(_LAYERS, f'layer_{number}')}: expected, found nothing"
        for number in range(depth)
        for place, layers in sorted(stacked.items())
        if number not in layers
    ]
    if lines:
        text = "\n".join(shorten(lines))
        raise LoadError(f"{path}: there is a layer_{depth - 1}, and not all of the layers before it are whole\n{text}")


def _shapes(model: Pi0Spec) -> dict[str, Leaf]:
    return tree.leaves_of(model.param_spec())


def _sizes(leaves: Mapping[str, Leaf]) -> dict[str, Any]:
    """Return the sizes of a Gemma, as far as its arrays show them."""
    sizes: dict[str, Any] = {}
    if table := _shape(leaves, TOKEN_TABLE, 2):
        sizes["vocab_size"], sizes["width"] = table
    if out := _shape(leaves, f"{_ATTENTION}/attn_vec_einsum/w", 4):
        sizes["depth"], sizes["num_heads"], sizes["head_dim"], _ = out
    if f"{_ATTENTION}/qkv_einsum/w" in leaves:
        sizes["num_kv_heads"] = sizes.get("num_heads")
    elif kv := _shape(leaves, f"{_ATTENTION}/kv_einsum/w", 5):
        sizes["num_kv_heads"] = kv[2]
    if linear := _shape(leaves, f"{_LAYERS}/mlp/linear", 3):
        sizes["mlp_dim"] = linear[1]
    return sizes


def _shape(leaves: Mapping[str, Leaf], path: str, axes: int) -> tuple[int, ...] | None:
    """Return the shape of an array with this number of axes; None if it has others, or is not there."""
    shape = leaves[path].shape if path in leaves else ()
    return shape if len(shape) == axes else None
