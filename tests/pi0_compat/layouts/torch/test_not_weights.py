"""Tensors that are no weights are refused by name: codes and their scales, placeholders, in every PyTorch layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fixtures.params import Params
from fixtures.writers import hugging_face, openpi_pytorch, safetensors_file
from pi0_compat.cli.main import main
from pi0_compat.errors import LoadError
from pi0_compat.layouts.torch.hugging_face import open_hugging_face
from pi0_compat.layouts.torch.not_weights import scales_among
from pi0_compat.layouts.torch.openpi import open_pytorch
from pi0_compat.model.config import Pi0Config
from tests.pi0_compat.tiny_models import SPEC

WEIGHTS = "model.safetensors"
MODEL = Pi0Config.from_json({**SPEC}).without_lora()
DEQUANTIZE = (
    "pi0 needs the weights in float32, bfloat16 or float16: load the model with the library that quantized it, "
    "dequantize it (in transformers: model.dequantize()), save it, and pass that"
)
LAYOUTS: dict[str, Callable[..., object]] = {
    "openpi_pytorch": lambda folder: openpi_pytorch.build(SPEC, folder),
    "hugging_face": lambda folder: hugging_face.build(SPEC, folder),
}


def opened(folder: Path, layout: str) -> None:
    if layout == "openpi_pytorch":
        open_pytorch(folder, MODEL)
    else:
        with open_hugging_face(folder, MODEL):
            pass


def refused(folder: Path, layout: str) -> str:
    with pytest.raises(LoadError) as error:
        opened(folder, layout)
    return str(error.value)


@pytest.fixture(params=list(LAYOUTS))
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    LAYOUTS[request.param](tmp_path / "model")
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "model"


def change(folder: Path, edit: Callable[[Params, str], None]) -> str:
    """Change the tensors; return the name of a weight of the feed-forward."""
    tensors = safetensors_file.read(folder / WEIGHTS)
    name = min(name for name in tensors if name.endswith("layers.0.mlp.down_proj.weight"))
    edit(tensors, name)
    safetensors_file.write(tensors, folder / WEIGHTS)
    return name


@pytest.mark.parametrize("suffix", ["_scale_inv", "_scale", ".absmax", ".quant_map", ".quant_state.bitsandbytes__nf4"])
def test_a_scale_beside_a_weight_is_refused(folder: Path, layout: str, suffix: str) -> None:
    """Codes that were cast to floats look like weights: their scale tells, and is named."""

    def edit(tensors: Params, name: str) -> None:
        tensors[f"{name}{suffix}"] = np.ones((1, 1), np.float32)

    name = change(folder, edit)
    assert refused(folder, layout) == (
        f"{folder}/{WEIGHTS}: 1 tensors are scales of quantized weights, for example {name}{suffix}: float32[1, 1]; "
        f"without them the weights are another model's. {DEQUANTIZE}"
    )


@pytest.mark.parametrize("shape", [(0,), (0, 36)])
def test_placeholders_are_refused(folder: Path, layout: str, shape: tuple[int, ...]) -> None:
    """A tensor without values is a placeholder of ZeRO-3, with the program that gathers them."""
    count = len(safetensors_file.read(folder / WEIGHTS))
    name = change(folder, lambda tensors, name: tensors.update({name: np.zeros(shape, np.float32)}))
    assert refused(folder, layout) == (
        f"{folder}/{WEIGHTS}: 1 of {count} tensors hold no values, for example {name}: float32{list(shape)}; training "
        "with ZeRO-3 saves such placeholders of weights that it has not gathered: make the file with DeepSpeed's "
        "zero_to_fp32.py, or save with stage3_gather_16bit_weights_on_model_save"
    )


def test_codes_are_refused(folder: Path, layout: str) -> None:
    """Weights of whole numbers are codes."""
    name = change(folder, lambda tensors, name: tensors.update({name: tensors[name].astype(np.int8)}))
    message = refused(folder, layout)
    assert message.startswith(f"{folder}/{WEIGHTS}: 1 weights are codes of a quantization, for example {name}: int8[")
    assert message.endswith(f"]. {DEQUANTIZE}")


def test_a_bias_of_whole_numbers_is_refused(folder: Path, layout: str) -> None:
    """A bias is refused as a weight is; a buffer beside it may be of whole numbers."""
    bias = "vision_tower.vision_model.encoder.layers.0.layer_norm1.bias"

    def edit(tensors: Params, name: str) -> None:
        found = next(name for name in tensors if name.endswith(bias))
        tensors[found] = tensors[found].astype(np.int64)

    change(folder, edit)
    assert "1 weights are codes of a quantization, for example " in refused(folder, layout)


@pytest.mark.parametrize(
    ("value", "words"),
    [({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"), ({"bits": 4}, "of no named method")],
)
def test_a_quantization_config_is_refused(folder: Path, layout: str, value: dict[str, Any], words: str) -> None:
    """A config.json that tells of a quantization is believed, with the way out if it is left over."""
    file = folder / "config.json"
    recorded = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(recorded | {"quantization_config": value}))
    assert refused(folder, layout).endswith(
        f": its config.json has a quantization_config ({words}), so its tensors may be codes. {DEQUANTIZE}; if they "
        "are the weights already, remove quantization_config"
    )


def test_plain_weights_have_no_scales(folder: Path, layout: str) -> None:
    """Nothing of a plain checkpoint is taken for a scale."""
    opened(folder, layout)
    assert scales_among(safetensors_file.read(folder / WEIGHTS)) == []
    assert scales_among(["a.scale", "a.weight", "b.scale", "vision.logit_scale"]) == ["a.scale"]


@pytest.mark.parametrize("shape", [(0,), ()])
def test_no_shape_makes_a_traceback(
    folder: Path, layout: str, shape: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever tensor is empty or a scalar, `inspect` and `convert` answer, and only `convert` refuses always."""
    tensors = safetensors_file.read(folder / WEIGHTS)
    sizing = [name for name in tensors if "layers." not in name or ".layers.0.mlp" in name or "0.self_attn" in name]
    assert len(sizing) > 10
    for name in sizing:
        safetensors_file.write(tensors | {name: np.zeros(shape, ml_dtypes.bfloat16)}, folder / WEIGHTS)
        assert main(["inspect", str(folder)]) in (0, 1, 2)
        assert main(["diff", str(folder), str(folder)]) in (0, 1, 2)
        status = main(["convert", str(folder), "--to", "openpi", "-o", str(tmp_path / "out")])
        unused = "lm_head" in name and not shape
        assert status == 2 or unused, name
        assert not (tmp_path / "out").exists() or unused
    capsys.readouterr()
