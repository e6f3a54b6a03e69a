"""Flat and nested parameters, and the differences between two trees."""

from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pi0_compat import params as tree
from pi0_compat.paths import is_adapter

# Slashes and tildes are escaped; "~1" must not be taken for an escaped slash.
KEYS = st.text(alphabet="a1~/ é", max_size=4)
LEAVES = st.integers(0, 9)


def branches(children: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(KEYS, children, min_size=1, max_size=4)


TREES = branches(st.recursive(LEAVES, branches, max_leaves=12))


@given(st.lists(KEYS, min_size=1, max_size=5))
@example(["~1", "~0", "/", ""])
def test_split_undoes_join(keys: list[str]) -> None:
    """Every sequence of keys, with any characters, is recovered from its path."""
    assert tree.split(tree.join(keys)) == tuple(keys)


@given(st.lists(KEYS, min_size=1, max_size=4), st.lists(KEYS, min_size=1, max_size=4))
def test_distinct_keys_have_distinct_paths(left: list[str], right: list[str]) -> None:
    """Two sequences of keys have the same path only if they are the same."""
    assert (tree.join(left) == tree.join(right)) == (left == right)


@given(TREES)
def test_unflatten_undoes_flatten(nested: dict[str, Any]) -> None:
    """A tree with arbitrary string keys is the same after flattening and nesting again."""
    assert tree.unflatten(tree.flatten(nested)) == nested


@given(TREES)
def test_flatten_undoes_unflatten(nested: dict[str, Any]) -> None:
    """Flat parameters are the same after nesting and flattening, sorted by path."""
    flat = tree.flatten(nested)
    again = tree.flatten(tree.unflatten(dict(reversed(flat.items()))))
    assert list(again.items()) == sorted(flat.items())


@given(TREES)
def test_as_flat_accepts_both_forms(nested: dict[str, Any]) -> None:
    """The flat form of a nested tree equals flattening it, and a flat form is unchanged."""
    flat = tree.flatten(nested)
    assert tree.as_flat({"top": nested}) == {f"top/{path}": leaf for path, leaf in flat.items()}
    assert tree.as_flat(flat) == flat


def test_mappings_without_leaves_hold_no_parameter() -> None:
    """Empty mappings vanish: they hold nothing that could be lost."""
    assert tree.flatten({"a": {}, "b": {"c": {}}}) == {}


def test_a_name_that_is_no_string_is_refused() -> None:
    """An integer key raises an error that names it and its place."""
    with pytest.raises(TypeError, match=r"3 below 'layers' is a int, expected a string"):
        tree.flatten({"layers": {3: 0}})


@pytest.mark.parametrize("paths", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b")])
def test_a_leaf_on_a_branch_is_refused(paths: tuple[str, ...]) -> None:
    """A path that is a leaf and a branch is refused by name, in either order."""
    with pytest.raises(ValueError, match=f"^{paths[1]}: "):
        tree.unflatten(dict.fromkeys(paths, 0))


def test_as_flat_leaves_its_argument_alone() -> None:
    """Flattening neither sorts nor changes its argument."""
    given_params = {"b": 1, "a": 2}
    tree.as_flat(given_params)["c"] = 3
    assert list(given_params.items()) == [("b", 1), ("a", 2)]


@pytest.mark.parametrize("name", ["lora_a", "lora_b", "linear_lora_a", "gating_einsum_lora_b"])
def test_adapters_are_recognized_by_their_last_component(name: str) -> None:
    """A path is an adapter matrix if its last component is or ends in lora_a or lora_b."""
    assert is_adapter(f"PaliGemma/llm/{name}")


@pytest.mark.parametrize(
    "path",
    ["explorations/kernel", "lora_a/w", "lora/kernel", "explora_a", "lora_c", "lora_a/value"],
)
def test_a_name_that_looks_like_lora_is_no_adapter(path: str) -> None:
    """A path whose last component only contains the letters of lora is no adapter."""
    assert not is_adapter(path)


@given(st.lists(st.sampled_from(["lora_a", "lora_b", "w", "llm"]), max_size=4))
def test_parents_do_not_make_an_adapter(parents: list[str]) -> None:
    """The names of a parameter's parents do not make it an adapter."""
    assert not is_adapter("/".join([*parents, "kernel"]))


def test_bytes_are_counted_by_dtype() -> None:
    """Bytes follow from shape and dtype, for arrays and for shapes; a scalar has one value."""
    params = {
        "a": np.zeros((2, 3), ml_dtypes.bfloat16),
        "b": jax.ShapeDtypeStruct((5,), np.float32),
        "c": np.float64(1),
        "d": np.zeros((0, 4), np.float32),
    }
    assert tree.num_bytes(params) == 2 * 3 * 2 + 5 * 4 + 8


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


def test_equal_trees_have_no_differences() -> None:
    """Trees of the same paths, shapes and dtypes do not differ, whatever their values."""
    assert not tree.differences({"a": zeros(2)}, {"a": np.ones(2, np.float32)})


def test_differences_are_listed_one_per_line() -> None:
    """The text has a line for every missing, unexpected and mismatched path, with expected and found."""
    expected = {"a": zeros(2), "b": zeros(2, 3), "c": zeros()}
    found = {"b": zeros(3, 2), "c": zeros(dtype="float16"), "d": zeros(4)}
    assert str(tree.differences(expected, found)).splitlines() == [
        "  - a: expected float32[2], found nothing",
        "  + d: found float32[4], expected nothing",
        "  ~ b: expected float32[2, 3], found float32[3, 2]",
        "  ~ c: expected float32[], found float16[]",
    ]


def test_dtypes_can_be_excluded_from_the_comparison() -> None:
    """Without dtypes, trees that differ in nothing else are equal."""
    assert not tree.differences({"a": zeros(2)}, {"a": zeros(2, dtype="int8")}, dtypes=False)


def test_long_lists_end_in_a_count() -> None:
    """More than twenty differences are truncated after twenty, and the rest is counted."""
    lines = str(tree.differences({f"p{n:02}": zeros() for n in range(23)}, {})).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "  ... and 3 more"


def test_twenty_differences_are_not_truncated() -> None:
    """Exactly twenty differences are listed without a count."""
    lines = str(tree.differences({f"p{n:02}": zeros() for n in range(20)}, {})).splitlines()
    assert len(lines) == 20
    assert lines[-1].startswith("  - p19")
