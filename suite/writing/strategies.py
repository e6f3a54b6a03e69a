"""What Hypothesis draws for contracts: structure and seeds, never tensors."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

# What loaders trip over: numbers, separators, escapes, names that mean something elsewhere, prefixes of one another.
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
    """Dicts in dicts with any names, deep and shallow; a leaf is None, an empty dict is no leaf. At least one leaf.

    No name is `value`, which may be nnx's suffix; no two joined with dots are equal, for orbax joins them so.
    """
    names = _NAMES.filter(lambda name: name != "value")
    trees: st.SearchStrategy[Any] = st.recursive(
        st.none() | st.just({}), lambda below: st.dictionaries(names, below, max_size=4), max_leaves=12
    )
    return trees.filter(lambda tree: isinstance(tree, dict) and _fits_orbax(tree))


def _fits_orbax(tree: Mapping[str, Any]) -> bool:
    joined = list(_joined(tree))
    return bool(joined) and len(set(joined)) == len(joined)


def _joined(tree: Mapping[str, Any], above: str = "") -> list[str]:
    """The names of all leaves, joined with dots."""
    found = []
    for name, child in tree.items():
        found += [above + name] if child is None else _joined(child, f"{above}{name}.")
    return found
