"""``every_layout``: a law has cases in each layout, or a reason for each layout without one."""

import pytest

from fixtures.layouts import LAYOUTS, Layout
from fixtures.specs import tiny, with_lora
from suite.writing.layouts import Case, cells, every_layout


def plain(layout: Layout) -> tuple[Case, ...]:
    return (Case(id="plain", layout=layout, model=tiny()), Case(id="other", layout=layout, model=tiny("pi05")))


def of_openpi(layout: Layout) -> tuple[Case, ...]:
    return plain(layout) if layout.name == "openpi" else ()


def law() -> None:
    """A fact."""


REASONS = {name: f"{name} has none" for name in LAYOUTS if name != "openpi"}


def test_every_layout_has_its_cases() -> None:
    def fact() -> None: ...

    marked = every_layout(plain)(fact)
    assert cells(marked) == dict.fromkeys(LAYOUTS, 2)
    [mark] = marked.pytestmark  # type: ignore[attr-defined]
    assert mark.kwargs["ids"](mark.args[1][0]) == "openpi-plain"


def test_a_layout_without_cases_has_its_reason() -> None:
    def fact() -> None: ...

    assert cells(every_layout(of_openpi, empty=REASONS)(fact)) == {"openpi": 2, **REASONS}


@pytest.mark.parametrize("empty", [{}, {"openpi": "it has cases"}, REASONS | {"openpi": "it has cases"}])
def test_a_layout_has_either_cases_or_a_reason(empty: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either cases or the reason"):
        every_layout(of_openpi, empty=empty)


def test_an_unmarked_law_has_no_cells() -> None:
    assert cells(law) is None


def test_a_case_needs_what_its_layout_and_model_need() -> None:
    """The family only where the layout tells it, and LoRA only if the model has adapters."""
    npz, openpi = LAYOUTS["paligemma_npz"], LAYOUTS["openpi"]
    assert Case(id="a", layout=npz, model=tiny("pi05")).needs == ("paligemma_npz",)
    assert Case(id="b", layout=openpi, model=with_lora(tiny("pi05"))).needs == ("openpi", "pi05", "lora")


def test_expected_is_what_the_model_takes() -> None:
    """A case of another stored model expects those parameters that the model to load into has, in float32."""
    adapted = Case(id="c", layout=LAYOUTS["openpi"], model=tiny(), stored=with_lora(tiny()), dtype="float16")
    assert set(adapted.expected()) < set(adapted.written())
    assert {str(array.dtype) for array in adapted.expected().values()} == {"float32"}
