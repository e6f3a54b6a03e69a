"""The ``value`` that nnx states append to leaves: when it is stripped, and when it is a name."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pi0_compat.layouts.orbax.metadata import strip_value_suffix
from pi0_compat.params import flatten

KEYS = st.text(alphabet="av~/", min_size=1, max_size=3) | st.just("value")


def branches(children: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(KEYS, children, min_size=1, max_size=3)


PATHS = branches(st.recursive(st.just(0), branches, max_leaves=8)).map(lambda tree: [*flatten(tree)])


@given(PATHS)
def test_a_recorded_suffix_is_stripped_from_all(paths: list[str]) -> None:
    """If a checkpoint records that leaves end in ``value``, each gets its original name."""
    names = strip_value_suffix([f"{path}/value" for path in paths], value_suffix=True)
    assert list(names.values()) == paths


@given(PATHS)
def test_a_recorded_absence_strips_nothing(paths: list[str]) -> None:
    """If a checkpoint records that leaves have no suffix, each keeps its name, even ``value``."""
    assert list(strip_value_suffix(paths, value_suffix=False).values()) == paths


@given(PATHS)
def test_a_suffix_on_all_leaves_is_found_without_record(paths: list[str]) -> None:
    """openpi's own checkpoints record nothing, so a suffix on every leaf is recognized."""
    assert list(strip_value_suffix([f"{path}/value" for path in paths]).values()) == paths


@given(PATHS, st.integers(0, 2**32 - 1))
def test_a_suffix_on_some_leaves_is_found_without_record(paths: list[str], seed: int) -> None:
    """If no parameter is called ``value``, any mixture of leaves with and without it is resolved."""
    names = [path for path in paths if path.rpartition("/")[2] != "value"]
    suffixed = np.random.default_rng(seed).integers(0, 2, len(names))
    mixed = [f"{name}/value" if on else name for name, on in zip(names, suffixed, strict=True)]
    assert list(strip_value_suffix(mixed).values()) == names


def test_a_nameless_parameter_loses_its_suffix_too() -> None:
    """The suffix of a parameter whose name is the empty string is stripped like any other."""
    assert strip_value_suffix(["/value"], value_suffix=True) == {"/value": ""}


def test_a_parameter_called_value_beside_others_is_kept() -> None:
    """A leaf called ``value`` that has siblings is a parameter."""
    paths = ["critic/bias", "critic/value"]
    assert strip_value_suffix(paths) == dict(zip(paths, paths, strict=True))
