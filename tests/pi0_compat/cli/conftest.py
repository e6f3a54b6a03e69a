"""Fixtures of the tests of ``pi0-compat``: the command as a function, and tiny checkpoints in every layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fixtures import specs
from fixtures.params import Params
from fixtures.writers import gemma_flax, hugging_face, openpi, openpi_pytorch, paligemma_npz
from pi0_compat.cli import main as cli
from tests.pi0_compat.cli.checkpoints import LORA_SPEC, config_file, step

SPEC = specs.tiny()
LORA = specs.tiny(lora="both")
# Layout and family of each checkpoint in the folder `tiny`.
KINDS = {
    "openpi": ("openpi", "pi0"),
    "lora": ("openpi", "pi0"),
    "pytorch": ("openpi_pytorch", "pi0"),
    "hugging_face": ("hugging_face", "PaliGemma"),
    "paligemma.npz": ("paligemma_npz", "PaliGemma"),
    "gemma": ("gemma_flax", "Gemma 1"),
}


class Result(NamedTuple):
    """Exit status, stdout and stderr of a command."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Return the JSON on stdout."""
        return json.loads(self.out)


@pytest.fixture
def pi0_compat(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Return the command as a function of its arguments."""

    def call(*arguments: object) -> Result:
        status = cli.main([str(argument) for argument in arguments])
        return Result(status, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the same model in every layout; tests must not change it.

    tiny/
    ├── openpi/         whole
    ├── lora/           whole, with adapters on both experts
    ├── pytorch/        whole, openpi's PyTorch
    ├── hugging_face/   PaliGemma
    ├── paligemma.npz   PaliGemma
    └── gemma/          the language model
    """
    folder = tmp_path_factory.mktemp("tiny")
    openpi.build(SPEC, folder / "openpi")
    openpi.build(LORA, folder / "lora")
    openpi_pytorch.build(SPEC, folder / "pytorch")
    hugging_face.build(SPEC, folder / "hugging_face")
    paligemma_npz.build(SPEC, folder / "paligemma.npz")
    gemma_flax.build(SPEC, folder / "gemma")
    return folder


@pytest.fixture(scope="session")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sizes of these models as a user writes them: base.json and lora.json."""
    folder = tmp_path_factory.mktemp("sizes")
    for name, spec in (("base", SPEC), ("lora", LORA)):
        (folder / f"{name}.json").write_text(json.dumps(spec))
    return folder


@pytest.fixture
def lora(tmp_path: Path) -> Params:
    """Write a LoRA checkpoint of openpi's, without its alpha, to ``tmp_path/lora``; return its parameters."""
    return step(LORA_SPEC, tmp_path / "lora")


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Return a file with the config that it was trained with."""
    return config_file(LORA_SPEC, tmp_path)
