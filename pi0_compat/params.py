"""Parameter trees as flat dictionaries, and the difference of two of them as text.

``Params`` maps slash paths to arrays. ``~`` and ``/`` inside a key are escaped as in JSON pointers (RFC 6901), so
flattening loses nothing. Where users hand in parameters, ``as_flat`` takes the nested form too.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from pi0_compat.text import shorten

Params = dict[str, Any]


class Leaf(NamedTuple):
    """Shape and dtype of a parameter."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def num_bytes(self) -> int:
        """Return the bytes that the array takes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]"


def leaf_of(array: Any) -> Leaf:
    """Return the shape and dtype of anything array-like, ``jax.ShapeDtypeStruct`` included."""
    return Leaf(tuple(array.shape), np.dtype(array.dtype))


def leaves_of(params: Mapping[str, Any]) -> dict[str, Leaf]:
    """Return path -> shape and dtype."""
    return {path: leaf_of(array) for path, array in params.items()}


def join(parts: Iterable[str]) -> str:
    """Return the slash path of nested keys."""
    return "/".join(_escape(part) for part in parts)


def split(path: str) -> tuple[str, ...]:
    """Return the nested keys of a slash path."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in path.split("/"))


def flatten(tree: Mapping[str, Any]) -> Params:
    """Return nested parameters as a flat dictionary, sorted by path; a mapping without leaves holds no parameter."""
    return dict(sorted((join(keys), leaf) for keys, leaf in _walk(tree, ())))


def as_flat(params: Mapping[str, Any]) -> Params:
    """Return flat parameters from either form; a tree is nested exactly when one of its values is a mapping."""
    nested = any(isinstance(value, Mapping) for value in params.values())
    return flatten(params) if nested else dict(sorted(params.items()))


def unflatten(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat parameters as nested dictionaries."""
    tree: dict[str, Any] = {}
    for path, leaf in params.items():
        *parents, name = split(path)
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path}: a parameter lies at one of its parents too")
        if name in node:
            raise ValueError(f"{path}: other parameters lie below it")
        node[name] = leaf
    return tree


def num_bytes(params: Mapping[str, Any]) -> int:
    """Return the bytes that the arrays (or shapes) take."""
    return sum(leaf.num_bytes for leaf in leaves_of(params).values())


def bytes_by_dtype(params: Mapping[str, Any]) -> dict[str, int]:
    """Return dtype -> bytes of the arrays (or shapes) that have it, most first."""
    counted: Counter[str] = Counter()
    for leaf in leaves_of(params).values():
        counted[leaf.dtype.name] += leaf.num_bytes
    return dict(counted.most_common())


@dataclasses.dataclass(frozen=True)
class Differences:
    """How ``found`` differs from ``expected``; empty if paths, shapes and, where compared, dtypes are equal.

    Attributes:
      missing: expected paths that were not found.
      unexpected: found paths that were not expected.
      mismatched: path -> expected and found, where they differ.
    """

    missing: dict[str, Leaf]
    unexpected: dict[str, Leaf]
    mismatched: dict[str, tuple[Leaf, Leaf]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        """Return one line per path: ``-`` missing, ``+`` unexpected, ``~`` mismatched; at most 20 of each kind."""
        missing = [f"  - {path}: expected {leaf}, found nothing" for path, leaf in sorted(self.missing.items())]
        unexpected = [f"  + {path}: found {leaf}, expected nothing" for path, leaf in sorted(self.unexpected.items())]
        mismatched = [
            f"  ~ {path}: expected {want}, found {got}" for path, (want, got) in sorted(self.mismatched.items())
        ]
        return "\n".join(line for kind in (missing, unexpected, mismatched) for line in shorten(kind))


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], *, dtypes: bool = True) -> Differences:
    """Compare two flat trees of arrays, shapes or ``Leaf``s by path, shape and (if ``dtypes``) dtype."""
    want, got = leaves_of(expected), leaves_of(found)

    def differ(path: str) -> bool:
        return want[path].shape != got[path].shape or (dtypes and want[path].dtype != got[path].dtype)

    return Differences(
        missing={path: leaf for path, leaf in want.items() if path not in got},
        unexpected={path: leaf for path, leaf in got.items() if path not in want},
        mismatched={path: (want[path], got[path]) for path in want.keys() & got.keys() if differ(path)},
    )


def to_numpy(params: Mapping[str, Any]) -> Params:
    """Return the same parameters as numpy arrays on the host."""
    for array in params.values():
        # jax copies in the background: all copies start before the first one is awaited.
        if start := getattr(array, "copy_to_host_async", None):
            start()
    return {path: np.asarray(array) for path, array in params.items()}


def _walk(node: Mapping[str, Any], keys: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], Any]]:
    for key, value in node.items():
        if not isinstance(key, str):
            raise TypeError(f"parameter name {key!r} below {join(keys)!r} is a {type(key).__name__}, expected a string")
        if isinstance(value, Mapping):
            yield from _walk(value, (*keys, key))
        else:
            yield (*keys, key), value


def _escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
