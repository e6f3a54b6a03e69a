"""A checkpoint of one family is refused for a model of another, by every way in, with both named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.specs import Family, tiny
from fixtures.writers import openpi, openpi_pytorch
from pi0_compat.checkpoints.check import check_checkpoint
from pi0_compat.checkpoints.convert import convert_checkpoint
from pi0_compat.checkpoints.inspect import inspect_checkpoint
from pi0_compat.checkpoints.lora import attach_checkpoint, extract_checkpoint, fold_checkpoint
from pi0_compat.errors import LoadError
from pi0_compat.layouts.orbax.restore import restore_params
from pi0_compat.loading.loaders import CheckpointWeightLoader, OpenpiPyTorchWeightLoader
from pi0_compat.lora.fold import fold
from pi0_compat.lora.params import initialize_lora_parameters
from pi0_compat.model.config import Pi0Config
from pi0_compat.norm_stats.openpi_files import write_norm_stats
from pi0_compat.norm_stats.stats import Stats

FAMILIES: tuple[Family, ...] = ("pi0", "pi05", "pi0_fast")
PAIRS = [(stored, model) for stored in FAMILIES for model in FAMILIES if stored != model]

every_pair = pytest.mark.parametrize(
    ("stored", "model"), PAIRS, ids=[f"{stored}_into_{model}" for stored, model in PAIRS]
)


def config(family: Family, *, lora: bool) -> Pi0Config:
    return Pi0Config.from_json({**tiny(family, lora="both" if lora else "none")})


def write_stats(assets: Path) -> None:
    """Write norm stats, without which copies are warned about."""
    (assets / "robot").mkdir(parents=True)
    array = Stats.of({"mean": [0.5], "std": [2.0], "q01": [-4.1], "q99": [5.1]})
    write_norm_stats({"state": array, "actions": array}, assets / "robot")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Family, bool], Path]:
    """Return a checkpoint of each family, with and without adapters."""
    found = {}
    for family in FAMILIES:
        for lora in (False, True):
            path = tmp_path_factory.mktemp("step") / "params"
            openpi.build(tiny(family, lora="both" if lora else "none"), path)
            write_stats(path.parent / "assets")
            found[family, lora] = path
    return found


Checkpoints = dict[tuple[Family, bool], Path]


@every_pair
@pytest.mark.parametrize("lora", [False, True], ids=["base", "lora"])
def test_loaders_refuse(checkpoints: Checkpoints, stored: Family, model: Family, lora: bool) -> None:
    """Neither training nor serving takes the checkpoint, and ``check`` says so."""
    loader, wanted = CheckpointWeightLoader(checkpoints[stored, lora]), config(model, lora=lora)
    name = "pi0-FAST or PaliGemma" if (stored, lora) == ("pi0_fast", False) else stored
    for load in (loader.load, loader.load_for_inference):
        with pytest.raises(LoadError, match=rf"of {name}, the config is {model}"):
            load(wanted)
    (fit,) = check_checkpoint(checkpoints[stored, lora], wanted).fits.values()
    assert f"the config is {model}" in fit.training.reason
    assert f"the config is {model}" in fit.inference.reason


@every_pair
def test_commands_on_adapters_refuse(checkpoints: Checkpoints, tmp_path: Path, stored: Family, model: Family) -> None:
    """Fold and extract with a config of another family write nothing."""
    for command in (fold_checkpoint, extract_checkpoint):
        with pytest.raises(LoadError, match=f"the config is {model}"):
            command(checkpoints[stored, True], tmp_path / "out", config=config(model, lora=True))
    assert not (tmp_path / "out").exists()


@every_pair
def test_functions_in_memory_refuse(checkpoints: Checkpoints, stored: Family, model: Family) -> None:
    """``fold`` and ``config.load`` refuse parameters of another family."""
    params, wanted = restore_params(checkpoints[stored, True]), config(model, lora=True)
    with pytest.raises(ValueError, match=f"the config is {model}"):
        fold(params, wanted)
    with pytest.raises(ValueError, match=f"the config is {model}"):
        wanted.load(params)


@pytest.mark.parametrize("stored", ["pi0", "pi05"])
def test_adapters_are_not_made_for_another_family(checkpoints: Checkpoints, stored: Family) -> None:
    """A pi0 has all weights that adapters of a pi0_fast sit on, and is refused."""
    with pytest.raises(ValueError, match=f"of {stored}, the config is pi0_fast"):
        initialize_lora_parameters(restore_params(checkpoints[stored, False]), config("pi0_fast", lora=True), seed=0)


@pytest.mark.parametrize("stored", ["pi0", "pi05"])
def test_conversion_refuses(checkpoints: Checkpoints, tmp_path: Path, stored: Family) -> None:
    """A pi0 is not converted as a pi0_fast, not even to a layout that holds its PaliGemma alone."""
    for layout in ("openpi", "hugging_face"):
        with pytest.raises(LoadError, match=f"of {stored}, the config is pi0_fast"):
            convert_checkpoint(
                checkpoints[stored, False],
                tmp_path / "out",
                config=config("pi0_fast", lora=False),
                layout=layout,
                drop=True,
            )


def test_fast_has_no_place_in_pytorch(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """openpi has no pi0-FAST in PyTorch, and transformers none to put adapters on: the error says so."""
    fast = config("pi0_fast", lora=True)
    with pytest.raises(LoadError, match="pi0_fast, which openpi does not have in PyTorch"):
        convert_checkpoint(checkpoints["pi0_fast", False], tmp_path / "out", config=fast, layout="openpi_pytorch")
    with pytest.raises(LoadError, match="a pi0_fast, which transformers does not have"):
        convert_checkpoint(checkpoints["pi0_fast", True], tmp_path / "out", config=fast, layout="peft", drop=True)
    assert not (tmp_path / "out").exists()


def test_pytorch_does_not_load_into_fast(tmp_path: Path) -> None:
    """A pi0 in PyTorch is refused for a pi0_fast by its family."""
    openpi_pytorch.build(tiny(), tmp_path)
    with pytest.raises(LoadError, match="a checkpoint of pi0, the config is pi0_fast"):
        OpenpiPyTorchWeightLoader(tmp_path).load(config("pi0_fast", lora=False))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lora", [False, True], ids=["base", "lora"])
def test_inspect_says_which_families_the_names_allow(checkpoints: Checkpoints, family: Family, lora: bool) -> None:
    """A pi0_fast without adapters may be a PaliGemma; every other whole checkpoint is of one family."""
    expected = "pi0-FAST or PaliGemma" if (family, lora) == ("pi0_fast", False) else family
    assert inspect_checkpoint(checkpoints[family, lora]).family == expected


def test_adapters_of_another_family_are_not_attached(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """Extracted adapters go onto no base, and with no config, of another family."""
    write_stats(tmp_path / "assets")
    with_assets: Callable[..., Any] = attach_checkpoint
    for family in ("pi0", "pi0_fast"):
        extract_checkpoint(checkpoints[family, True], tmp_path / family, config=config(family, lora=True))
    with pytest.raises(LoadError, match=r"extracted from a pi0, and the base .* is of pi0_fast or PaliGemma"):
        with_assets(tmp_path / "pi0", checkpoints["pi0_fast", False], tmp_path / "out")
    with pytest.raises(LoadError, match="extracted from a pi0_fast, and the config is of pi0"):
        with_assets(
            tmp_path / "pi0_fast",
            checkpoints["pi0_fast", False],
            tmp_path / "out",
            config=Pi0Config.from_json({**tiny("pi0", lora="paligemma")}),
        )
