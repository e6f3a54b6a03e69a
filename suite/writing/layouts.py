"""Laws over layouts: a law states one fact, and is asked of each layout that a subject reads.

    @contract(source="...", needs=("load",))
    @every_layout(SIZES, empty={"peft": "an adapter holds no images"})
    def test_a_fact(loads: Loads, case: Case) -> None:
        params = loads(case).params

``needs`` names what the fact itself needs; a case adds what its layout and its model need. Several laws may judge one
load: cases that are equal share it.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pytest

from fixtures.layouts import LAYOUTS, Layout
from fixtures.params import Params
from fixtures.specs import ModelSpec, adapted_experts
from fixtures.writers import openpi_layout

Test = TypeVar("Test", bound=Callable[..., object])
_EMPTY = "_pi0_compat_empty_cells"


def _no_change(tensors: Params) -> Params:
    return tensors


def _no_damage(path: Path) -> None:
    """Leave the files unchanged."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A checkpoint in a layout, and the model to load it into.

    Attributes:
      id: unique among all cases of the layout: cases with one id are the same.
      layout: its layout.
      model: the model to load it into.
      stored: the model whose parameters it holds; by default the same.
      dtype: the dtype in which it holds them.
      params: changes openpi's parameters before they get the layout's names.
      tensors: changes the tensors, under the layout's names, before they are written.
      files: damages the files.
    """

    id: str
    layout: Layout
    model: ModelSpec
    stored: ModelSpec | None = None
    dtype: str = "float32"
    params: Callable[[Params], Params] = _no_change
    tensors: Callable[[Params], Params] = _no_change
    files: Callable[[Path], None] = _no_damage

    def __str__(self) -> str:
        return f"{self.layout.name}-{self.id}"

    @property
    def needs(self) -> tuple[str, ...]:
        """The capabilities that layout and model need."""
        # A part of a pi0 may be the whole of a pi0-FAST.
        named = self.layout.holds in ("whole", "adapters") or self.model["family"] == "pi0_fast"
        family = (self.model["family"],) if named else ()
        return (*self.layout.needs, *family, *(("lora",) if adapted_experts(self.model) else ()))

    def written(self) -> Params:
        """Return the parameters that it holds, under openpi's names."""
        return self.params(self.layout.contents(self.stored or self.model, 0, self.dtype))

    def expected(self) -> Params:
        """Return the parameters of the loaded model that come from the checkpoint, in float32."""
        shapes = openpi_layout.shapes(self.model)
        return {path: array.astype(np.float32) for path, array in self.written().items() if path in shapes}

    def write(self, folder: Path) -> Path:
        """Write the checkpoint into a folder and return its path."""
        path = folder / self.layout.file
        tensors = self.tensors(self.layout.tensors(self.written()))
        self.layout.write_tensors(tensors, path, self.stored or self.model)
        self.files(path)
        return path


Cases = Callable[[Layout], Iterable[Case]]


def every_layout(cases: Cases, *, empty: Mapping[str, str] | None = None) -> Callable[[Test], Test]:
    """Parametrize a law over cases of every layout.

    Args:
      cases: returns the cases of a layout; none where the fact says nothing about it.
      empty: why, by the name of the layout, for each layout without a case.

    Raises:
      ValueError: a layout has neither cases nor a reason, or both.
    """
    found = {name: list(cases(layout)) for name, layout in LAYOUTS.items()}
    reasons = dict(empty or {})
    if wrong := [name for name in found if bool(found[name]) == (name in reasons)]:
        raise ValueError(f"{', '.join(wrong)}: give either cases or the reason why there are none")
    chosen = [case for of_layout in found.values() for case in of_layout]

    def mark(test: Test) -> Test:
        setattr(test, _EMPTY, reasons)
        return cast("Test", pytest.mark.parametrize("case", chosen, ids=str)(test))

    return mark


def cells(test: Callable[..., object]) -> dict[str, int | str] | None:
    """Return a law's number of cases for each layout, or the reason why it has none; None if it is not over layouts."""
    reasons: dict[str, str] | None = getattr(test, _EMPTY, None)
    if reasons is None:
        return None
    [mark] = [mark for mark in test.pytestmark if mark.name == "parametrize" and mark.args[0] == "case"]  # type: ignore[attr-defined]
    counts = Counter(case.layout.name for case in mark.args[1])
    return {name: reasons.get(name) or counts[name] for name in LAYOUTS}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a load did.

    Attributes:
      operation: the operation that was asked: ``load`` or ``load_for_inference``.
      path: the checkpoint's file or folder.
      model: the description of the model that the operation was given, as it was afterward.
      result: what ``load`` returned; None if it raised.
      error: what it raised.
      changed: the files that it changed, made or deleted.
    """

    operation: str
    path: Path
    model: ModelSpec
    result: dict[str, Any] | None
    error: Exception | None
    changed: tuple[str, ...]

    def loaded(self) -> dict[str, Any]:
        """Return the result; raise the error of a load that raised, as it was raised."""
        if self.error:
            raise self.error
        assert self.result is not None
        return self.result

    @property
    def params(self) -> Params:
        """The loaded parameters."""
        params: Params = self.loaded()["params"]
        return params
