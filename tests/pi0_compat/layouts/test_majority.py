"""Which parts of a model differ from the rest."""

from pi0_compat.layouts.majority import unlike


def test_what_differs_from_most_is_named() -> None:
    """The names are those of the parts that have something else than most, in their order."""
    assert unlike({"0": (3, 4), "1": (4, 3), "2": (3, 4), "3": (1,)}) == ((3, 4), ["1", "3"])


def test_nothing_differs_among_equals() -> None:
    """Equal parts, or a single one, have no odd one."""
    assert unlike({"0": 2, "1": 2}) == (2, [])
    assert unlike({"0": 2}) == (2, [])
