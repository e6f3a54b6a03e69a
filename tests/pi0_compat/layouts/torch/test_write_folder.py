"""Folders in PyTorch's names: one file, or shards as the Hub has them."""

import json
from pathlib import Path

import pytest

from fixtures.writers import safetensors_file
from pi0_compat import convert_checkpoint
from pi0_compat.cli import main as cli
from pi0_compat.cli.sizes import read_size
from pi0_compat.errors import LoadError
from suite.writing.asserts import assert_same_bits
from suite.writing.cases import digests

GOLDEN = Path(__file__).parents[4] / "fixtures" / "golden" / "pi0_base"
LIMIT = 100_000


def _paligemma(out: Path, limit: int | None) -> Path:
    convert_checkpoint(GOLDEN, out, layout="hugging_face", drop=True, config="pi0_base_tiny", max_shard_bytes=limit)
    return out


def test_shards_hold_what_one_file_holds(tmp_path: Path) -> None:
    """Every tensor is in one shard, the index names it, and no shard is larger than asked for."""
    whole = safetensors_file.read(_paligemma(tmp_path / "whole", None) / "model.safetensors")
    folder = _paligemma(tmp_path / "shards", LIMIT)
    files = sorted(file.name for file in folder.glob("*.safetensors"))
    assert files == [f"model-{n:05}-of-{len(files):05}.safetensors" for n in range(1, len(files) + 1)]
    shards = {name: safetensors_file.read(folder / name) for name in files}
    assert len(files) > 2
    assert all(sum(x.nbytes for x in shard.values()) <= LIMIT or len(shard) == 1 for shard in shards.values())
    assert_same_bits({name: x for shard in shards.values() for name, x in shard.items()}, whole)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == {name: file for file, shard in shards.items() for name in shard}
    assert index["metadata"] == {"total_size": sum(x.nbytes for x in whole.values())}


def test_a_limit_above_the_whole_changes_nothing(tmp_path: Path) -> None:
    """There is one file and no index, and two runs write the same bytes."""
    assert digests(_paligemma(tmp_path / "one", 10**9)) == digests(_paligemma(tmp_path / "other", None))


def test_shards_read_back(tmp_path: Path) -> None:
    """A folder of shards converts to openpi's layout as one file does, with the same bits."""
    for name, limit in (("whole", None), ("shards", LIMIT)):
        _paligemma(tmp_path / name, limit)
        convert_checkpoint(tmp_path / name, tmp_path / f"{name}.npz", layout="paligemma_npz", config="pi0_base_tiny")
    assert (tmp_path / "whole.npz").read_bytes() == (tmp_path / "shards.npz").read_bytes()


@pytest.mark.parametrize("layout", ["openpi", "openpi_pytorch", "lerobot", "paligemma_npz"])
def test_shards_are_refused_where_nobody_finds_them(tmp_path: Path, layout: str) -> None:
    """lerobot and openpi look for model.safetensors alone; lerobot would make a policy of fresh weights."""
    with pytest.raises(LoadError, match=f"shards are for hugging_face, and this is {layout}"):
        convert_checkpoint(GOLDEN, tmp_path / "out.npz", layout=layout, max_shard_bytes=LIMIT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "size"), [("5GB", 5 * 10**9), ("500 mb", 5 * 10**8), ("1GiB", 2**30), ("7", 7)])
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["five", "5 parsecs", "0GB", "-1"])
def test_what_is_no_size_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    """The message says what a size looks like, before anything is read."""
    arguments = ["convert", str(tmp_path), "-o", str(tmp_path / "out"), "--to", "hugging_face"]
    assert cli.main([*arguments, f"--max-shard-size={text}"]) == 2
    assert "for example 5GB" in capsys.readouterr().err


def test_the_command_writes_shards(tmp_path: Path) -> None:
    arguments = ["convert", str(GOLDEN), "-o", str(tmp_path / "out"), "--to", "hugging_face", "--drop"]
    assert cli.main([*arguments, "--config", "pi0_base_tiny", "--max-shard-size", "100KB"]) == 0
    assert (tmp_path / "out" / "model.safetensors.index.json").is_file()
