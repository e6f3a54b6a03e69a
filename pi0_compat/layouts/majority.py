"""Find which of several parts of a model, such as its layers, differ from the rest."""

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def unlike(found: Mapping[str, T]) -> tuple[T, list[str]]:
    """Return what most parts have, and the names of those that have something else.

    Args:
      found: the name of a part -> what it has, such as its shape; at least one part.

    Returns:
      The first of what is most frequent, and the other parts' names in their order.
    """
    usual = Counter(found.values()).most_common(1)[0][0]
    return usual, [name for name, one in found.items() if one != usual]
