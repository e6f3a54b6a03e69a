"""What lies beside converted weights, and what a conversion leaves behind: the whole of it, or nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from fixtures.specs import TINY_QUERY_HEADS, ModelSpec, tiny
from suite.asserts import refused
from suite.cases import digests
from suite.contracts.conftest import Checkpoint, write_checkpoint
from suite.registry import contract
from suite.subjects.protocol import Subject

NEEDS = ("convert", "openpi_pytorch")
LAYOUT = "openpi_pytorch"
FAMILIES = {"pi0": tiny("pi0", num_kv_heads=2), "pi05": tiny("pi05")}


@contract(source="openpi convert_jax_model_to_pytorch.py:544-550; bugs G11", needs=NEEDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_config_tells_what_the_model_is(subject: Subject, tmp_path: Path, family: str) -> None:
    """``config.json`` has openpi's names, family, prompt length and precision among them, and the whole model."""
    spec: dict[str, Any] = {**FAMILIES[family]}
    checkpoint = write_checkpoint(FAMILIES[family], tmp_path / "params")
    subject.convert(spec, checkpoint.path, LAYOUT, str(tmp_path / "out"))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    sizes = ("action_dim", "action_horizon", "max_token_len")
    assert {name: config[name] for name in sizes} == {name: spec[name] for name in sizes}
    assert (config["pi05"], config["precision"]) == (family == "pi05", "float32")
    assert {name: config["model"][name] for name in spec} == spec


@contract(source="bugs G9, G11", needs=(*NEEDS, "load"))
def test_recorded_sizes_count(subject: Subject, tmp_path: Path) -> None:
    """Six heads of ten and ten heads of six have the same tensors; read for the wrong one, the file is refused."""
    written, other = (tiny(num_kv_heads=TINY_QUERY_HEADS) for _ in range(2))
    for expert in ("paligemma", "action_expert"):
        other[expert] = {**other[expert], "num_heads": 10, "num_kv_heads": 10, "head_dim": 6}
    checkpoint = write_checkpoint(written, tmp_path / "params")
    subject.convert(written, checkpoint.path, LAYOUT, str(tmp_path / "out"))
    with refused("num_heads", "6", "10"):
        subject.load(other, {"kind": LAYOUT, "path": str(tmp_path / "out")}, seed=0)


@contract(source="openpi convert_jax_model_to_pytorch.py:536; openpi #638, #810; bugs G4", needs=NEEDS)
def test_assets_go_along(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """The norm stats beside the parameters of a step are copied; where there are none, a warning names the folder."""
    checkpoint = write_checkpoint(base_spec, tmp_path / "1000" / "params")
    told = subject.convert(base_spec, checkpoint.path, LAYOUT, str(tmp_path / "without"))["warnings"]
    assert any(str(tmp_path / "1000" / "assets") in text for text in told), told
    stats = tmp_path / "1000" / "assets" / "droid" / "norm_stats.json"
    stats.parent.mkdir(parents=True)
    stats.write_text('{"norm_stats": {"state": {"mean": [0.5]}}}')
    told = subject.convert(base_spec, checkpoint.path, LAYOUT, str(tmp_path / "with"))["warnings"]
    assert digests(tmp_path / "with" / "assets") == digests(tmp_path / "1000" / "assets")
    assert not any("assets" in text for text in told), told


@contract(source="openpi convert_jax_model_to_pytorch.py:538: removes what is there", needs=NEEDS)
@pytest.mark.parametrize("place", ["folder", "file"])
def test_nothing_is_overwritten(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, place: str) -> None:
    """What is at the output's place already is refused by name and stays as it is."""
    out = tmp_path / "out"
    occupied = out / "model.safetensors" if place == "folder" else out
    occupied.parent.mkdir(exist_ok=True)
    occupied.write_text("mine")
    before = digests(tmp_path)
    with refused(str(out)):
        subject.convert(base_checkpoint.spec, base_checkpoint.path, LAYOUT, str(out))
    assert digests(tmp_path) == before


@contract(source="bugs C18, D1", needs=NEEDS)
def test_failed_conversion_leaves_nothing(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """A checkpoint whose arrays cannot be read is refused by name, and nothing appears at or beside the output."""
    checkpoint = write_checkpoint(base_spec, tmp_path / "params")
    for data in (tmp_path / "params" / "ocdbt.process_0" / "d").iterdir():
        data.write_bytes(data.read_bytes()[:100])
    out = tmp_path / "made" / "out"
    out.parent.mkdir()
    with refused(checkpoint.path):
        subject.convert(base_spec, checkpoint.path, LAYOUT, str(out))
    assert not list(out.parent.iterdir())


@contract(source="bugs C5, C11", needs=NEEDS)
def test_other_sizes_are_refused(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A checkpoint of other sizes than the model's is refused with the parameter and both shapes."""
    deeper = tiny(depth=4)
    with refused(base_checkpoint.path, "PaliGemma/llm/layers/mlp/linear", "[4, 88, 56]", "[3, 88, 56]"):
        subject.convert(deeper, base_checkpoint.path, LAYOUT, str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


@contract(source="openpi convert_jax_model_to_pytorch.py:525; bugs G6", needs=NEEDS)
def test_unknown_layout_is_refused_first(subject: Subject, tmp_path: Path) -> None:
    """A layout that nobody knows is refused by name before anything is read, with the layouts that there are."""
    with refused("gguf", LAYOUT):
        subject.convert(tiny(), str(tmp_path / "no_checkpoint"), "gguf", str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())
