"""A checkpoint is not worked on as one of another family: by every command, in every direction, nothing is written."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures import content
from fixtures.writers import openpi
from pi0_compat.checkpoints.convert import LAYOUTS
from pi0_compat.cli import NO, REFUSED
from pi0_compat.model.named import named_model

# The config that adapters are trained with, and that of the base, of each family.
_CONFIGS = {
    "pi0": ("pi0_libero_low_mem_finetune_tiny", "pi0_base_tiny"),
    "pi05": ("pi05_libero_low_mem_finetune_tiny", "pi05_base_tiny"),
    "pi0_fast": ("pi0_fast_libero_low_mem_finetune_tiny", "pi0_fast_base_tiny"),
}
_DIRECTIONS = [(found, asked) for found in _CONFIGS for asked in _CONFIGS if found != asked]
_COMMANDS = {
    "fold": ("fold",),
    "extract": ("extract",),
    "extract --base": ("extract", "--base"),
    **{f"convert --to {layout}": ("convert", "--to", layout) for layout in LAYOUTS},
    "convert --fold": ("convert", "--fold", "--to", "openpi"),
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base, the same with adapters, and the adapters' model file, of each family."""
    folder = tmp_path_factory.mktemp("families")
    for family, configs in _CONFIGS.items():
        for name, config in zip(("lora", "base"), configs, strict=True):
            spec = named_model(config).param_spec()
            params = {path: content.array(path, leaf.shape, "float32") for path, leaf in spec.items()}
            openpi.write(params, folder / family / name / "params")
            (folder / family / f"{name}.json").write_text(json.dumps(named_model(config).to_json()))
    return folder


def _ways(folder: Path, family: str, which: int) -> Iterator[tuple[str, str]]:
    """Yield both ways to name the model of a family."""
    yield "--config", _CONFIGS[family][which]
    yield "--config-file", str(folder / family / f"{('lora', 'base')[which]}.json")


def _words(family: str) -> tuple[str, ...]:
    """Return what a family may be called: the names of a pi0-FAST are those of a PaliGemma."""
    return ("pi0_fast", "pi0-FAST") if family == "pi0_fast" else (family,)


@pytest.mark.parametrize(("found", "asked"), _DIRECTIONS)
@pytest.mark.parametrize("command", _COMMANDS)
def test_a_config_of_another_family_is_refused(
    pi0_compat: Callable, checkpoints: Path, tmp_path: Path, command: str, found: str, asked: str
) -> None:
    """Every command that writes names both families, for a named config and for a model file."""
    for option in _ways(checkpoints, asked, 0):
        out = tmp_path / f"out{'.npz' if 'npz' in command else ''}"
        result = pi0_compat(*_COMMANDS[command], checkpoints / found / "lora", "-o", out, *option)
        assert result.status == REFUSED, result.out
        assert all(any(word in result.err for word in _words(family)) for family in (found, asked)), result.err
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("found", "asked"), _DIRECTIONS)
def test_check_says_no(pi0_compat: Callable, checkpoints: Path, found: str, asked: str) -> None:
    """With the config of another family, check says no for training and for inference."""
    for which in ("lora", "base"):
        for option in _ways(checkpoints, asked, which == "base"):
            result = pi0_compat("check", checkpoints / found / which, *option)
            assert result.status == NO
            assert "training    no: " in result.out
            assert "inference   no: " in result.out


@pytest.mark.parametrize(("found", "asked"), _DIRECTIONS)
def test_adapters_of_another_family_are_not_attached(
    pi0_compat: Callable, checkpoints: Path, tmp_path: Path, found: str, asked: str
) -> None:
    """Adapters go onto a base of their family only; a config of another family than both is refused too."""
    own, other = (checkpoints / family for family in (found, asked))
    adapters = tmp_path / "adapters"
    assert pi0_compat("extract", own / "lora", "-o", adapters).status == 0
    out = ("-o", tmp_path / "out")
    for option in ((), *_ways(checkpoints, found, 0), *_ways(checkpoints, asked, 0)):
        assert pi0_compat("attach", adapters, "--to", other / "base", *out, *option).status == REFUSED
    for option in _ways(checkpoints, asked, 0):
        assert pi0_compat("attach", adapters, "--to", own / "base", *out, *option).status == REFUSED
    assert [path.name for path in tmp_path.iterdir()] == ["adapters"]
