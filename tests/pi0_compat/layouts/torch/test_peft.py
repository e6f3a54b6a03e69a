"""PEFT's adapter folder: the output reads back as the same function, and misfits are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.params import Params
from fixtures.writers import safetensors_file
from pi0_compat import convert_checkpoint, save_params
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.layouts.torch import peft as peft_writing
from pi0_compat.layouts.torch.peft_reading import read_peft
from pi0_compat.lora.sites import Adapter, adapter_of
from pi0_compat.model import sites
from pi0_compat.model.config import Pi0Config
from pi0_compat.model.specs import LoRASpec
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.tiny_models import ADAPTERS, LORA, SPEC, lora_params

PARAMS = lora_params()
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
Q_PROJ = "model.vlm.language_model.layers.0.self_attn.q_proj"
ONE = LoRASpec(rank=1, alpha=1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the adapters of the tiny model in PEFT's layout."""
    save_params(PARAMS, tmp_path / "params", config=LORA)
    convert_checkpoint(tmp_path / "params", tmp_path / "peft", layout="peft")
    return tmp_path / "peft"


def test_the_output_reads_back(folder: Path) -> None:
    """Every matrix is read back bit for bit, except lora_b after attention, whose sum over heads is."""
    restored, _ = read_peft(folder, LORA)
    summed = [path for path in ADAPTERS if "attn_vec_einsum" in path and path.endswith("lora_b")]
    assert_same_bits(
        {path: restored[path] for path in ADAPTERS if path not in summed},
        {path: PARAMS[path] for path in ADAPTERS if path not in summed},
    )
    for path in summed:
        adapter = adapter_of(path)
        assert isinstance(adapter, Adapter)
        got, expected = (sites.delta(adapter.site, PARAMS[adapter.a], b, ONE) for b in (restored[path], PARAMS[path]))
        np.testing.assert_allclose(got, expected, atol=1e-5)


Change = Callable[[Params, dict[str, Any]], Any]


def _longer(tensors: Params, _: dict[str, Any]) -> None:
    name = f"base_model.model.{Q_PROJ}.lora_A.weight"
    tensors[name] = np.concatenate([tensors[name]] * 2, axis=1)


def _mixed(tensors: Params, _: dict[str, Any]) -> None:
    name = f"base_model.model.{Q_PROJ}.lora_B.weight"
    tensors[name] = tensors[name].copy()
    tensors[name][0, -1] = 1.0


MISFITS: dict[str, tuple[Change, str]] = {
    "a tensor is missing": (lambda t, c: t.pop(f"base_model.model.{Q_PROJ}.lora_B.weight"), "expected, found nothing"),
    "a tensor is too much": (
        lambda t, c: t.update({"x": np.ones(2, np.float32)}),
        "1 tensors have no place in the model, for example x",
    ),
    "another alpha": (
        lambda t, c: c["alpha_pattern"].update({key: 2 * x for key, x in c["alpha_pattern"].items()}),
        r"adapter_config|peft: the scale of .* is \d+\.\d+, the model has \d+\.\d+",
    ),
    "rslora": (lambda t, c: c.update(use_rslora=True), r"the scale of .* is .*, the model has"),
    "another width": (_longer, f"{Q_PROJ}.lora_A.weight does not fit PaliGemma/llm/layers/attn/q_einsum/lora_a"),
    "mixed heads": (_mixed, "it mixes heads, for which openpi has no place"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_misfits_are_refused(folder: Path, case: str) -> None:
    """Missing and additional tensors, another scale or width, and mixed heads are refused by name."""
    change, text = MISFITS[case]
    tensors, settings = safetensors_file.read(folder / WEIGHTS), json.loads((folder / SETTINGS).read_text())
    change(tensors, settings)
    safetensors_file.write(tensors, folder / WEIGHTS)
    (folder / SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(LoadError, match=text):
        read_peft(folder, LORA)


@pytest.mark.parametrize("text", ["", "[1]", None])
def test_invalid_settings_are_refused(folder: Path, text: str | None) -> None:
    """An adapter without its settings has no scale."""
    if text is None:
        (folder / SETTINGS).unlink()
    else:
        (folder / SETTINGS).write_text(text)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: is no settings of a PEFT adapter"):
        read_peft(folder, LORA)


def test_half_precision_is_summed_in_float32(tmp_path: Path) -> None:
    """The sum over heads of bfloat16 matrices is written in float32, since bfloat16 would round it."""
    narrow = {path: x.astype("bfloat16") for path, x in PARAMS.items()}
    save_params(narrow, tmp_path / "params", config=LORA)
    convert_checkpoint(tmp_path / "params", tmp_path / "peft", layout="peft")
    tensors = safetensors_file.read(tmp_path / "peft" / WEIGHTS)
    name = "base_model.model.model.vlm.language_model.layers.0.self_attn.o_proj.lora_{}.weight"
    assert tensors[name.format("A")].dtype.name == "bfloat16"
    total = narrow["PaliGemma/llm/layers/attn/attn_vec_einsum/lora_b"][0].astype(np.float64).sum(0)
    np.testing.assert_array_equal(tensors[name.format("B")], total.T.astype(np.float32))


def test_rslora_is_in_alpha(tmp_path: Path) -> None:
    """alpha / rank of every module is openpi's scale, either alpha / rank or alpha / sqrt(rank)."""
    data: dict[str, Any] = {**SPEC}
    data["action_expert"] = {**data["action_expert"], "lora": {"attn": {"rank": 4, "alpha": 3.0, "rslora": True}}}
    model = Pi0Config.from_json(data)
    fresh = model.init_params(0)
    save_params(fresh, tmp_path / "params", config=model)
    convert_checkpoint(tmp_path / "params", tmp_path / "peft", layout="peft")
    settings = json.loads((tmp_path / "peft" / SETTINGS).read_text())
    [key] = [key for key in settings["rank_pattern"] if "dit" in key and "q_proj" in key]
    assert settings["alpha_pattern"][key] / settings["rank_pattern"][key] == pytest.approx(3.0 / 2.0)
    assert set(read_peft(tmp_path / "peft", model)[0]) == {path for path in fresh if "lora" in path}


def test_an_output_that_reads_back_differently_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that stores other numbers is detected."""
    save_params(PARAMS, tmp_path / "params", config=LORA)
    monkeypatch.setattr(peft_writing, "same_bits", lambda one, other: False)
    with pytest.raises(
        CheckpointError, match=r"lora_A\.weight that is read back is not what was meant; nothing was kept"
    ):
        convert_checkpoint(tmp_path / "params", tmp_path / "peft", layout="peft")
    assert [path.name for path in tmp_path.iterdir()] == ["params"]
