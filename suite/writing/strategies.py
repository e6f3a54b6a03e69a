"""Hypothesis strategies for contracts. They draw structure and seeds, never tensors."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

# Names that break loaders: numbers, separators, escapes, reserved names, prefixes of each other.
_ODD = (
    "0",
    "1",
    "10",
    "2",
    "a",
    "ab",
    "a.b",
    "a/b",
    "a~b",
    "~1",
    "..",
    "w ",
    "%2F",
    "params",
    "lora_a",
    "層",
    "É",
    "é",
)
_NAMES = st.sampled_from(_ODD) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


def nested_names() -> st.SearchStrategy[dict[str, Any]]:
    """Draw nested dicts with arbitrary names and at least one leaf; a leaf is None, and an empty dict is not a leaf.

    No name is `value`, which may be nnx's suffix. No two paths joined with dots are equal, because orbax joins names
    with dots; nor are two that differ in slashes at their end, which orbax stores in one place.
    """
    names = _NAMES.filter(lambda name: name != "value")
    trees: st.SearchStrategy[Any] = st.recursive(
        st.none() | st.just({}), lambda below: st.dictionaries(names, below, max_size=4), max_leaves=12
    )
    return trees.filter(lambda tree: isinstance(tree, dict) and _fits_orbax(tree))


def _fits_orbax(tree: Mapping[str, Any]) -> bool:
    paths = _dotted_paths(tree)
    return bool(paths) and len({path.rstrip("/") for path in paths}) == len(paths)


def _dotted_paths(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the path of every leaf, its names joined with dots."""
    paths = []
    for name, child in tree.items():
        paths += [prefix + name] if child is None else _dotted_paths(child, f"{prefix}{name}.")
    return paths
