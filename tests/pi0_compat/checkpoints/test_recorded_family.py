"""What is saved records its family: by names alone, a pi0-FAST cannot be told from a PaliGemma."""

from pathlib import Path

import pytest

from fixtures import content
from fixtures.golden_cases import GOLDEN
from fixtures.specs import Family, tiny
from fixtures.writers import openpi, paligemma_npz
from pi0_compat import inspect_checkpoint
from pi0_compat.checkpoints.convert import convert_checkpoint
from pi0_compat.checkpoints.lora import attach_checkpoint, extract_checkpoint, fold_checkpoint
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.layouts.orbax.save import save_params
from pi0_compat.model.config import Pi0Config

UNDECIDED = "pi0-FAST or PaliGemma"


def saved(family: Family, path: Path, *, lora: bool = True) -> Path:
    """Save a model of the family as training does; return the folder."""
    spec = tiny(family, lora="both" if lora else "none")
    save_params(content.params(spec), path / "params", config=Pi0Config.from_json(spec))
    return path / "params"


def test_openpis_own_says_what_the_names_allow() -> None:
    assert inspect_checkpoint(GOLDEN / "pi0_fast_base" / "params").family == UNDECIDED


@pytest.mark.parametrize("family", ["pi0", "pi05", "pi0_fast"])
def test_a_saved_checkpoint_says_its_family(tmp_path: Path, family: Family) -> None:
    path = saved(family, tmp_path)
    assert read_metadata(path).family == family
    assert inspect_checkpoint(path).family == family


def test_parameters_without_a_config_record_none(tmp_path: Path) -> None:
    save_params(content.params(tiny("pi0_fast")), tmp_path / "params")
    assert inspect_checkpoint(tmp_path / "params").family == UNDECIDED


@pytest.mark.filterwarnings("ignore:.*not there")
def test_the_family_goes_along(tmp_path: Path) -> None:
    """It is recorded in what is folded, extracted, attached, and converted."""
    path = saved("pi0_fast", tmp_path / "lora")
    made = {
        "folded": fold_checkpoint(path, tmp_path / "folded").path,
        "base": extract_checkpoint(path, tmp_path / "base", base=True).path,
    }
    extract_checkpoint(path, tmp_path / "adapters")
    made["attached"] = attach_checkpoint(tmp_path / "adapters", tmp_path / "base", tmp_path / "attached").path
    convert_checkpoint(
        made["folded"], tmp_path / "openpi", config=Pi0Config.from_json(tiny("pi0_fast")), layout="openpi"
    )
    made["converted"] = tmp_path / "openpi" / "params"
    assert {name: inspect_checkpoint(path).family for name, path in made.items()} == dict.fromkeys(made, "pi0_fast")
    assert inspect_checkpoint(tmp_path / "adapters").family == "adapters alone, of pi0_fast"


@pytest.mark.filterwarnings("ignore:.*not there")
def test_a_part_of_a_pi0_is_no_pi0_fast(tmp_path: Path) -> None:
    """A PaliGemma that is converted for a pi0 has its names, and records no family."""
    openpi.write(paligemma_npz.contents(tiny()), tmp_path / "in")
    config = Pi0Config.from_json(tiny())
    convert_checkpoint(tmp_path / "in", tmp_path / "hf", config=config, layout="hugging_face")
    convert_checkpoint(tmp_path / "hf", tmp_path / "back", config=config, layout="openpi")
    assert inspect_checkpoint(tmp_path / "back" / "params").family == UNDECIDED
