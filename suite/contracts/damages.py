"""Cases of damaged checkpoints: each layout's corruptions, and damage to a safetensors file where it has one."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from fixtures.damage.corruptions import CORRUPTIONS, Corruption
from fixtures.damage.operations.safetensors import FILE_DAMAGES, FOLDER_DAMAGES
from fixtures.layouts import Layout
from fixtures.specs import tiny
from suite.writing.layouts import Case

NO_ODDITY = {"peft": "no harmless oddity of an adapter's folder is known"}
NOT_SERVED = dict.fromkeys(
    ("openpi_pytorch", "lerobot", "hugging_face", "paligemma_npz", "gemma_flax", "peft"),
    "serving takes a whole model in openpi's own layout",
)


@cache
def critical(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each damage that a loader must not accept."""
    return (*_corrupted(layout, "critical"), *_damaged_file(layout))


@cache
def harmless(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each oddity that changes no parameter."""
    return _corrupted(layout, "benign")


@cache
def served(layout: Layout) -> tuple[Case, ...]:
    """Return the critical cases of the layout that is served."""
    return critical(layout) if layout.name == "openpi" else ()


@cache
def harmless_served(layout: Layout) -> tuple[Case, ...]:
    """Return the harmless cases of the layout that is served."""
    return harmless(layout) if layout.name == "openpi" else ()


def _corrupted(layout: Layout, severity: str) -> tuple[Case, ...]:
    found = [damage for damage in CORRUPTIONS if damage.severity == severity and layout.name in damage.layouts()]
    return tuple(_case(layout, damage) for damage in found)


def _case(layout: Layout, damage: Corruption) -> Case:
    return Case(
        id=damage.name,
        layout=layout,
        model=damage.spec(),
        params=damage.damage_params,
        tensors=damage.damage_stored,
        files=damage.damage_files,
    )


def _damaged_file(layout: Layout) -> tuple[Case, ...]:
    """Return one case for each damage to a safetensors file; none of a layout that has none."""
    if not layout.weights:
        return ()
    return tuple(
        Case(id=f"file_{name}", layout=layout, model=layout.model(tiny()), files=partial(_beside, layout, damage))
        for name, damage in (FILE_DAMAGES | FOLDER_DAMAGES).items()
    )


def _beside(layout: Layout, damage: Callable[[Path], None], path: Path) -> None:
    """Damage the folder of the layout's safetensors file."""
    damage((path / layout.weights).parent)
