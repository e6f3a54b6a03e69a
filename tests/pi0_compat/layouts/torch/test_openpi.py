"""openpi's PyTorch layout beyond its contracts: details of messages, of the config file and of the tied table."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fixtures import content
from fixtures.writers import openpi, openpi_pytorch, safetensors_file
from pi0_compat.checkpoints.convert import convert_checkpoint
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.orbax.read_stream import StoredParameters
from pi0_compat.layouts.torch.openpi import family_of, open_pytorch
from pi0_compat.model.config import Pi0Config
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.tiny_models import BASE, BASE_SPEC, LORA, PI05


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a checkpoint as openpi writes it."""
    openpi_pytorch.build(BASE_SPEC, tmp_path / "torch")
    return tmp_path / "torch"


def read_all(path: Path, model: Pi0Config = BASE) -> dict[str, np.ndarray]:
    source = open_pytorch(path, model)
    return {name: source.read(name) for name in model.param_spec()}


def test_the_file_can_replace_its_folder(folder: Path) -> None:
    assert_same_bits(read_all(folder / openpi_pytorch.WEIGHTS), read_all(folder))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"expected model\.safetensors or model\.safetensors\.index\.json, found nothing"
    ):
        open_pytorch(tmp_path, BASE)


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["time_mlp_in.weight"], "pi05"),
        (["action_time_mlp_in.bias"], "pi0"),
        (["paligemma_with_expert.time_mlp_in"], None),
        ([], None),
    ],
)
def test_family_is_in_the_names(names: list[str], family: str | None) -> None:
    assert family_of(names) == family


def test_a_config_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"is no config\.json"):
        open_pytorch(folder, BASE)


def test_other_options_may_differ_from_the_recorded_ones(folder: Path) -> None:
    recorded = BASE.to_json() | {"dtype": "bfloat16", "max_token_len": 99, "action_horizon": 2}
    (folder / "config.json").write_text(json.dumps({"model": recorded}))
    open_pytorch(folder, LORA)


def test_recorded_sizes_without_a_part_are_refused_by_name(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model": BASE.to_json() | {"siglip": None}}))
    with pytest.raises(LoadError, match=r"siglip\.width: expected 40, found None"):
        open_pytorch(folder, BASE)


def test_a_long_list_of_misfits_is_truncated(tmp_path: Path) -> None:
    head = np.zeros((2, 2), np.float32)
    openpi_pytorch.write({openpi_pytorch.EXPERT_HEAD: head, "action_time_mlp_in.weight": head}, tmp_path)
    with pytest.raises(LoadError, match=r"does not fit the pi0 model(.|\n)*\.\.\. and \d+ more"):
        open_pytorch(tmp_path, BASE)


def test_tied_tables_of_other_dtypes_conflict(folder: Path) -> None:
    tensors = safetensors_file.read(folder / openpi_pytorch.WEIGHTS)
    tensors[openpi_pytorch.TOKEN_TABLE] = tensors[openpi_pytorch.LM_HEAD].astype(np.float16)
    openpi_pytorch.write(tensors, folder)
    with pytest.raises(LoadError, match="are one table in the model and differ"):
        open_pytorch(folder, BASE)


def test_layers_in_two_half_precisions_have_float32_in_common(folder: Path) -> None:
    """A parameter with a float16 and a bfloat16 layer is float32, in whatever order its dtypes are met."""
    tensors = safetensors_file.read(folder / openpi_pytorch.WEIGHTS)
    name = "paligemma_with_expert.paligemma.model.language_model.layers.{}.mlp.down_proj.weight"
    for number, dtype in enumerate((content.DTYPES["bfloat16"], content.DTYPES["float16"], content.DTYPES["float16"])):
        tensors[name.format(number)] = tensors[name.format(number)].astype(dtype)
    openpi_pytorch.write(tensors, folder)
    assert open_pytorch(folder, BASE).leaves["PaliGemma/llm/layers/mlp/linear"].dtype == np.float32


def test_conversion_reads_every_stacked_array_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openpi.build(BASE_SPEC, tmp_path / "1" / "params")
    read: list[str] = []
    slabs = StoredParameters.slabs

    def counted(source: StoredParameters, path: str) -> Iterator[np.ndarray]:
        read.append(path)
        return slabs(source, path)

    monkeypatch.setattr(StoredParameters, "slabs", counted)
    with pytest.warns(UserWarning, match="copy them by hand"):
        convert_checkpoint(tmp_path / "1" / "params", tmp_path / "out", config=BASE)
    assert sorted(read) == sorted(BASE.param_spec())


def test_conversion_for_a_lora_config_takes_its_base(tmp_path: Path) -> None:
    params = openpi.build(BASE_SPEC, tmp_path / "params")
    with pytest.warns(UserWarning, match="copy them by hand"):
        convert_checkpoint(tmp_path / "params", tmp_path / "made" / "out", config=LORA)
    assert_same_bits(read_all(tmp_path / "made" / "out"), params)


def test_conversion_for_another_family_names_it(tmp_path: Path) -> None:
    openpi.build(BASE_SPEC, tmp_path / "params")
    with pytest.raises(LoadError, match="these are parameters of pi0, the config is pi05"):
        convert_checkpoint(tmp_path / "params", tmp_path / "out", config=PI05)


def test_names_of_a_fresh_model_of_transformers_are_read(folder: Path, tmp_path: Path) -> None:
    """Transformers 5.23 saves a model that was made of a config under other names of the same modules."""
    tensors = safetensors_file.read(folder / openpi_pytorch.WEIGHTS)
    fresh = {
        name.replace("vision_tower.vision_model.", "vision_tower.").replace(
            "paligemma.model.language_model.", "paligemma.model.language_model.model."
        ): tensor
        for name, tensor in tensors.items()
    }
    assert fresh.keys() != tensors.keys()
    openpi_pytorch.write(fresh, tmp_path / "fresh")
    assert_same_bits(read_all(tmp_path / "fresh"), read_all(folder))


def test_shards_with_an_index_are_read(folder: Path, tmp_path: Path) -> None:
    """Above its limit transformers saves shards; the folder and the index read like one file."""
    tensors = safetensors_file.read(folder / openpi_pytorch.WEIGHTS)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    (tmp_path / "shards").mkdir()
    for file, held in shards.items():
        safetensors_file.write({name: tensors[name] for name in held}, tmp_path / "shards" / file)
    index = tmp_path / "shards" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, held in shards.items() for name in held}}))
    for path in (tmp_path / "shards", index):
        assert_same_bits(read_all(path), read_all(folder))
