"""What makes a function a contract."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.session.registry import Contract, contract, contract_of


def law(name: str, docstring: str = "Apples\n    fall.\n    ") -> Callable[[object], None]:
    """Return a function that can become a contract, as a module would define it."""

    def test(subject: object) -> None:
        del subject

    test.__name__, test.__doc__ = name, docstring
    return test


def test_id_is_the_place() -> None:
    """A contract's id is its file and its function, its area is the file, its law is the docstring on one line."""
    gravity = law("test_law_of_gravity")
    marked = contract(source="Newton", needs=("init",))(gravity)
    assert marked is gravity
    registered = contract_of(marked)
    assert registered == Contract(id="registry.law_of_gravity", law="Apples fall.", source="Newton", needs=("init",))
    assert registered is not None
    assert registered.area == "registry"


def test_contract_is_marked_for_pytest() -> None:
    """`pytest -m contract` selects contracts."""
    marked = contract(source="Newton", needs=())(law("test_law_of_gravity"))
    assert "contract" in [mark.name for mark in vars(marked)["pytestmark"]]


def test_other_tests_are_no_contracts() -> None:
    """A function without the decorator is no contract."""
    assert contract_of(law("test_law_of_gravity")) is None


def test_contract_without_law_or_source_is_rejected() -> None:
    """A contract without a docstring, or without a source, is rejected by its id."""
    with pytest.raises(ValueError, match=r"registry\.silence: .*docstring"):
        contract(source="Newton", needs=())(law("test_silence", docstring=""))
    with pytest.raises(ValueError, match=r"registry\.hearsay: .*source"):
        contract(source="", needs=())(law("test_hearsay"))


def test_contract_without_a_subject_is_rejected() -> None:
    """A contract is a function `test_<fact>` that takes a subject."""
    with pytest.raises(ValueError, match="takes a subject"):
        contract(source="Newton", needs=())(law("gravity"))

    def test_alone() -> None:
        """Nobody is asked."""

    with pytest.raises(ValueError, match="takes a subject"):
        contract(source="Newton", needs=())(test_alone)


def test_parametrized_property_is_rejected() -> None:
    """A parametrized property test would give each subject different examples, so it is not a contract."""
    drawn = given(height=st.integers())(lambda subject, height: None)
    drawn.__name__, drawn.__doc__ = "test_all_fruit_falls", "All fruit falls."
    assert contract_of(contract(source="Newton", needs=())(drawn))
    with pytest.raises(ValueError, match="different examples"):
        contract(source="Newton", needs=())(pytest.mark.parametrize("tree", ["old"])(drawn))


def test_unknown_capability_is_rejected() -> None:
    """A contract that needs an unknown capability is rejected; the error names it and the known ones."""
    with pytest.raises(ValueError, match=r"\['flying'\]; expected some of .*'init'"):
        contract(source="Newton", needs=("init", "flying"))(law("test_birds_fly"))
