"""`pi0-compat convert`: every layout it writes, what it leaves out, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fixtures import content
from fixtures.params import Params
from fixtures.specs import tiny
from fixtures.writers import gemma_flax, hugging_face, openpi, openpi_pytorch, paligemma_npz, safetensors_file
from fixtures.writers.openpi import read_params
from fixtures.writers.openpi_layout import paligemma_shapes
from pi0_compat import convert_checkpoint, get_config, save_params
from pi0_compat.checkpoints.convert import LAYOUTS
from pi0_compat.cli import main as cli
from pi0_compat.cli.parsers import convert as parser
from pi0_compat.layouts import write
from pi0_compat.layouts.detect import detect
from pi0_compat.layouts.open import open_parameters
from pi0_compat.layouts.torch.rules import Rule
from pi0_compat.model.config import Pi0Config
from pi0_compat.storage.stream import slabs_ahead, whole
from suite.writing.asserts import assert_same_bits
from suite.writing.cases import digests, is_adapter
from tests.pi0_compat.cli.checkpoints import BASE_SPEC, LORA_SPEC, STATS, config_file, document, refusal, step

MODEL = Pi0Config.from_json({**LORA_SPEC})
TINY: Any = get_config("pi0_libero_tiny").model.to_json()
PALIGEMMA = sorted(paligemma_shapes(BASE_SPEC))
GOLDEN = Path(__file__).parents[3] / "fixtures" / "golden"


def read_all(path: Path) -> Params:
    with open_parameters(detect(path), MODEL) as source:
        return {name: whole(slabs_ahead(source, name)) for name in source.leaves if name in MODEL.param_spec()}


@pytest.fixture
def base(tmp_path: Path) -> Params:
    """Write openpi's checkpoint of a base model to ``tmp_path/base``; return its parameters."""
    return step(BASE_SPEC, tmp_path / "base")


@pytest.mark.parametrize(
    ("layout", "out", "whole_model"),
    [
        ("openpi", "out", True),
        ("openpi_pytorch", "out", True),
        ("hugging_face", "out", False),
        ("paligemma_npz", "out.npz", False),
    ],
)
def test_every_layout_reads_back(
    tmp_path: Path, base: Params, config: str, capsys, layout: str, out: str, whole_model: bool
) -> None:
    """The output has the checkpoint's bits; with --drop, parameters without a place are left out and listed."""
    shown = document(
        capsys, "convert", tmp_path / "base", "--to", layout, "-o", tmp_path / out, "--drop", "--config-file", config
    )
    expected = base if whole_model else {path: base[path] for path in PALIGEMMA}
    assert_same_bits(read_all(tmp_path / out), expected)
    assert sorted(shown["left_out"]) == sorted(base.keys() - expected.keys())
    assert (shown["layout"], shown["parameters"], shown["verified"]) == (layout, len(expected), True)
    assert (tmp_path / out / "assets" / STATS).is_file() is whole_model
    assert shown["assets"] is (True if whole_model else None)


@pytest.mark.parametrize("layout", ["openpi_pytorch", "hugging_face", "paligemma_npz"])
def test_two_runs_write_the_same_bytes(tmp_path: Path, base: Params, config: str, capsys, layout: str) -> None:
    """The output does not depend on time, place or chance."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        out = tmp_path / name / "out.npz"
        document(capsys, "convert", tmp_path / "base", "--to", layout, "-o", out, "--drop", "--config-file", config)
    assert digests(tmp_path / "a") == digests(tmp_path / "b") != {}


@pytest.mark.parametrize("layout", ["hugging_face", "paligemma_npz"])
def test_parameters_without_a_place_are_dropped_only_on_request(
    tmp_path: Path, base: Params, capsys, layout: str
) -> None:
    """Without --drop the action expert is not left out, and the message says how to allow it."""
    message = refusal(capsys, "convert", tmp_path / "base", "--to", layout, "-o", tmp_path / "out.npz")
    assert message.startswith(f"{tmp_path}/base/params: {layout} has no place for 18 parameters (")
    assert message.endswith(
        "), for example PaliGemma/llm/final_norm_1/scale; to leave them out say so: drop=True (--drop)"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


def test_left_out_parameters_are_listed(tmp_path: Path, base: Params, capsys) -> None:
    """The text has the first few parameters, their size and how to get the whole list."""
    assert (
        cli.main(["convert", str(tmp_path / "base"), "--to", "hugging_face", "--drop", "-o", str(tmp_path / "o")]) == 0
    )
    shown = capsys.readouterr().out
    assert "\nleft out: 18 parameters, " in shown
    assert "\n  PaliGemma/llm/final_norm_1/scale: float32[36]\n" in shown
    assert shown.endswith("\n  ... and 10 more; --json lists them all\n")


SOURCES = {
    "openpi_pytorch": ("torch", lambda path: openpi_pytorch.build(BASE_SPEC, path)),
    "hugging_face": ("hf", lambda path: hugging_face.build(BASE_SPEC, path)),
    "paligemma_npz": ("pt.npz", lambda path: paligemma_npz.build(BASE_SPEC, path)),
    "gemma_flax": ("gemma", lambda path: gemma_flax.build(BASE_SPEC, path)),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_layout_converts_to_openpi(tmp_path: Path, config: str, capsys, source: str) -> None:
    """A whole pi0, or the part of one in a PaliGemma or a Gemma, becomes openpi's tree, bit for bit."""
    name, build = SOURCES[source]
    expected = build(tmp_path / name)
    shown = document(
        capsys, "convert", tmp_path / name, "--to", "openpi", "-o", tmp_path / "out", "--config-file", config
    )
    assert_same_bits(read_params(tmp_path / "out" / "params"), expected)
    # Only unused tensors are left out: a head that no model reads, rows that transformers added.
    assert all("lm_head" in name or name.endswith(":]") for name in shown["left_out"])


def test_dtype_applies_to_every_array(tmp_path: Path, base: Params, config: str, capsys) -> None:
    """With --dtype all arrays are cast as numpy casts."""
    options = ("--dtype", "bfloat16", "--config-file", config)
    shown = document(capsys, "convert", tmp_path / "base", "--to", "openpi_pytorch", "-o", tmp_path / "out", *options)
    assert_same_bits(read_all(tmp_path / "out"), {path: x.astype(ml_dtypes.bfloat16) for path, x in base.items()})
    assert list(shown["bytes"]) == ["bfloat16"]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["precision"] == "bfloat16"


def test_overflow_is_refused(tmp_path: Path, config: str, capsys) -> None:
    """A finite number that float16 cannot hold does not become infinity silently."""
    params = content.params(BASE_SPEC)
    params["state_proj/bias"] = params["state_proj/bias"] + np.float32(1e6)
    save_params(params, tmp_path / "large")
    options = ("--dtype", "float16", "--config-file", config)
    message = refusal(capsys, "convert", tmp_path / "large", "--to", "openpi_pytorch", "-o", tmp_path / "out", *options)
    assert message == (
        f"{tmp_path}/large: state_proj/bias has finite values that overflow in float16; choose a wider dtype, bfloat16 "
        "has the range of float32"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "model.json"]


def test_codes_are_not_cast(tmp_path: Path, config: str, capsys) -> None:
    """Integers are codes of a quantization."""
    save_params(content.params(BASE_SPEC) | {"state_proj/bias": np.ones(36, np.int8)}, tmp_path / "codes")
    options = ("--dtype", "float32", "--config-file", config)
    message = refusal(capsys, "convert", tmp_path / "codes", "--to", "openpi_pytorch", "-o", tmp_path / "out", *options)
    assert message == (
        f"{tmp_path}/codes: 1 parameter holds no floats (pi0), and a cast would be garbage: dequantize with the "
        "library that quantized them\n  - state_proj/bias: expected floats, found int8[36]"
    )


@pytest.mark.parametrize("layout", ["openpi_pytorch", "hugging_face", "paligemma_npz"])
def test_adapters_are_never_dropped(tmp_path: Path, lora: Params, capsys, layout: str) -> None:
    """Even with --drop they are kept: the message says how to fold them."""
    message = refusal(capsys, "convert", tmp_path / "lora", "--to", layout, "-o", tmp_path / "o.npz", "--drop")
    number = 20 if layout == "openpi_pytorch" else 10
    assert message == (
        f"{tmp_path}/lora/params: {number} adapter matrices, for example "
        f"PaliGemma/llm/layers/attn/attn_vec_einsum/lora_a, have no place in the layout {layout} and would be lost; "
        "fold them into the weights: fold=True (--fold), or fold the checkpoint first"
    )


def test_fold_then_convert_is_convert_with_fold(tmp_path: Path, lora: Params, config: str, capsys) -> None:
    """Both ways to a PyTorch checkpoint of a LoRA model write the same bytes."""
    document(capsys, "fold", tmp_path / "lora", "-o", tmp_path / "folded", "--config-file", config)
    to = ("--to", "openpi_pytorch", "--config-file", config)
    document(capsys, "convert", tmp_path / "folded", *to, "-o", tmp_path / "two_steps")
    shown = document(capsys, "convert", tmp_path / "lora", *to, "--fold", "-o", tmp_path / "one_step")
    assert digests(tmp_path / "one_step") == digests(tmp_path / "two_steps")
    assert len(shown["lost"]) == 10


def test_openpi_keeps_adapters_and_their_alpha(tmp_path: Path, lora: Params, config: str, capsys) -> None:
    """openpi's own layout has a place for adapters."""
    document(capsys, "convert", tmp_path / "lora", "--to", "openpi", "-o", tmp_path / "out", "--config-file", config)
    assert_same_bits(read_params(tmp_path / "out" / "params"), lora)
    metadata = json.loads((tmp_path / "out" / "params" / "_METADATA").read_text())
    assert metadata["custom_metadata"]["lora"] == MODEL.lora


def test_peft_has_a_module_for_every_adapter(tmp_path: Path, lora: Params, config: str, capsys) -> None:
    """Rank and alpha are given by module; per-head adapters become blocks, sums over heads are summed."""
    shown = document(
        capsys, "convert", tmp_path / "lora", "--to", "peft", "-o", tmp_path / "out", "--config-file", config
    )
    tensors = safetensors_file.read(tmp_path / "out" / "adapter_model.safetensors")
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    attention = "model.vlm.language_model.layers.1.self_attn"
    spec = MODEL.paligemma.lora_attn
    assert spec
    up, down = (tensors[f"base_model.model.{attention}.q_proj.lora_{x}.weight"] for x in "BA")
    a, b = (lora[f"PaliGemma/llm/layers/attn/q_einsum/lora_{x}"][1] for x in "ab")
    delta = np.concatenate([(a[n] @ b[n]).T for n in range(len(a))])
    np.testing.assert_allclose(up @ down, delta, rtol=1e-4, atol=1e-5)
    up, down = (tensors[f"base_model.model.{attention}.o_proj.lora_{x}.weight"] for x in "BA")
    a, b = (lora[f"PaliGemma/llm/layers/attn/attn_vec_einsum/lora_{x}"][1] for x in "ab")
    delta = np.concatenate([(a[n] @ b.sum(0)).T for n in range(len(a))], axis=1)
    np.testing.assert_allclose(up @ down, delta, rtol=1e-4, atol=1e-5)
    module = r"model\.vlm\.language_model\.layers\.\d+\.self_attn\.q_proj"
    assert settings["rank_pattern"][module] == len(a) * spec.rank
    assert settings["alpha_pattern"][module] / settings["rank_pattern"][module] == spec.alpha / spec.rank
    assert len(settings["rank_pattern"]) == 14
    assert len(tensors) == 2 * 14 * 3
    assert sorted(shown["left_out"]) == sorted(path for path in lora if not is_adapter(path))


def test_peft_needs_adapters_and_alpha(tmp_path: Path, base: Params, lora: Params, capsys) -> None:
    """A base has nothing to write, and an adapter without alpha is meaningless."""
    message = refusal(capsys, "convert", tmp_path / "base", "--to", "peft", "-o", tmp_path / "out")
    assert message == f"{tmp_path}/base/params: it has no adapters, and a PEFT folder holds nothing else"
    message = refusal(capsys, "convert", tmp_path / "lora", "--to", "peft", "-o", tmp_path / "out")
    assert message == (
        f"{tmp_path}/lora/params: the alpha of PaliGemma/llm/layers/attn/attn_vec_einsum/lora_a is not known: the "
        "checkpoint does not record it, and no config with an adapter there was passed; pass the config that "
        "it was trained with (--config)"
    )


def test_transformers_has_no_pi05(tmp_path: Path, capsys) -> None:
    """transformers has no model for adapters of a pi05."""
    spec = tiny("pi05", lora="both")
    openpi.build(spec, tmp_path / "params")
    options = ("--config-file", config_file(spec, tmp_path))
    message = refusal(capsys, "convert", tmp_path / "params", "--to", "peft", "-o", tmp_path / "out", *options)
    assert message == (f"{tmp_path}/params: a pi05, which transformers does not have: there is nothing to put them on")


def test_a_known_model_needs_no_config(tmp_path: Path, capsys) -> None:
    """The parameters of a named config are recognized, and its sizes are recorded."""
    document(capsys, "convert", GOLDEN / "pi0_base", "--to", "openpi_pytorch", "-o", tmp_path / "out")
    recorded = json.loads((tmp_path / "out" / "config.json").read_text())
    assert recorded["model"] == get_config("pi0_base_tiny").model.to_json()
    document(capsys, "convert", tmp_path / "out", "--to", "openpi", "-o", tmp_path / "back")
    assert_same_bits(read_params(tmp_path / "back" / "params"), read_params(GOLDEN / "pi0_base" / "params"))


def test_an_unknown_model_needs_a_config(tmp_path: Path, base: Params, capsys) -> None:
    """Lengths of chunks and prompts are in no shape, so unknown models need a config."""
    message = refusal(capsys, "convert", tmp_path / "base", "--to", "openpi_pytorch", "-o", tmp_path / "out")
    assert message == (
        f"{tmp_path}/base/params: no known config has these parameters; pass the one that it is of (--config, "
        "--config-file)"
    )


def test_several_models_of_the_same_shapes_are_listed(tmp_path: Path, capsys, monkeypatch) -> None:
    """If several models have these shapes, they are listed with their differences."""
    models = {"one": TINY, "other": {**TINY, "action_horizon": 9}}
    known = {name: Pi0Config.from_json(model) for name, model in models.items()}
    monkeypatch.setattr(write, "named_models", lambda: known)
    message = refusal(capsys, "convert", GOLDEN / "pi0_base", "--to", "openpi_pytorch", "-o", tmp_path / "out")
    assert message == (
        f"{GOLDEN}/pi0_base/params: several known configs have these parameters, and no shape tells which; pass the "
        "one that it is of (--config)\n"
        "  one: action_horizon 5, max_token_len 7\n"
        "  other: action_horizon 9, max_token_len 7"
    )


def test_a_part_is_no_whole(tmp_path: Path, config: str, capsys) -> None:
    """A PaliGemma is not a pi0, and a Gemma not a PaliGemma: what is missing is named."""
    paligemma_npz.build(BASE_SPEC, tmp_path / "pt.npz")
    options = ("-o", tmp_path / "out.npz", "--config-file", config)
    message = refusal(capsys, "convert", tmp_path / "pt.npz", "--to", "openpi_pytorch", *options)
    assert message.startswith(f"{tmp_path}/pt.npz: a PaliGemma has no action expert, and openpi_pytorch holds a whole")
    gemma_flax.build(BASE_SPEC, tmp_path / "gemma")
    message = refusal(capsys, "convert", tmp_path / "gemma", "--to", "paligemma_npz", *options)
    assert message.startswith(
        f"{tmp_path}/gemma: these are not the parameters of a whole PaliGemma\n  - PaliGemma/img/"
    )


def test_other_sizes_than_the_config_are_refused(tmp_path: Path, base: Params, capsys) -> None:
    """A config of other sizes is refused with the parameters that differ, in every layout."""
    file = config_file(tiny("pi0", depth=4, num_kv_heads=2), tmp_path)
    options = ("-o", tmp_path / "out.npz", "--config-file", file, "--drop")
    for layout in ("openpi", "openpi_pytorch", "hugging_face", "paligemma_npz"):
        message = refusal(capsys, "convert", tmp_path / "base", "--to", layout, *options)
        assert "PaliGemma/llm/layers/mlp/linear: expected float32[4, 88, 56], found float32[3, 88, 56]" in message, (
            layout
        )


def test_an_npz_is_a_file_of_that_name(tmp_path: Path, base: Params, capsys) -> None:
    """A file without the suffix would not be recognized."""
    message = refusal(capsys, "convert", tmp_path / "base", "--to", "paligemma_npz", "--drop", "-o", tmp_path / "out")
    assert message == f"{tmp_path}/out: this layout is one file, whose name has to end in .npz"


def test_nothing_is_overwritten(tmp_path: Path, capsys) -> None:
    """An existing OUT is refused before anything is read."""
    (tmp_path / "out").write_text("mine")
    message = refusal(capsys, "convert", tmp_path / "nowhere", "--to", "openpi", "-o", tmp_path / "out")
    assert message == f"{tmp_path}/out: already exists; choose another folder or remove it first"


def test_a_wrong_output_is_not_kept(tmp_path: Path, base: Params, config: str, capsys, monkeypatch) -> None:
    """A writer that reverses a parameter is detected by the layout's own reader."""
    to_torch = Rule.to_torch
    monkeypatch.setattr(Rule, "to_torch", lambda rule, piece: to_torch(rule, piece[::-1]))
    message = refusal(
        capsys, "convert", tmp_path / "base", "--to", "openpi_pytorch", "-o", tmp_path / "out", "--config-file", config
    )
    assert "parameters that are read back are not what was meant, for example PaliGemma/" in message
    assert message.endswith("; nothing was kept")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "model.json"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("huggingface", "hugging_face"),
        ("hugging-face", "hugging_face"),
        ("openpi-pytorch", "openpi_pytorch"),
        ("PaliGemma npz", "paligemma_npz"),
    ],
)
def test_a_near_miss_names_the_layout(tmp_path: Path, base: Params, capsys, name: str, meant: str) -> None:
    """A layout has one spelling. Another one is refused with the right one, on the command line and in Python."""
    message = refusal(capsys, "convert", tmp_path / "base", "--to", name, "-o", tmp_path / "out")
    assert message.startswith(f"--to: unknown layout {name!r}; did you mean {meant}? expected one of ")
    with pytest.raises(ValueError, match=f"did you mean {meant}"):
        convert_checkpoint(tmp_path / "base", tmp_path / "out", layout=name)


@pytest.mark.parametrize("name", ["gemma_flax", "train_state", "tensorflow", ""])
def test_a_layout_that_cannot_be_written_is_refused(tmp_path: Path, base: Params, name: str) -> None:
    with pytest.raises(
        ValueError, match="expected one of openpi, openpi_pytorch, lerobot, hugging_face, paligemma_npz, peft"
    ):
        convert_checkpoint(tmp_path / "base", tmp_path / "out", layout=name)


def test_the_help_names_the_layouts_that_can_be_written() -> None:
    """The parser names them itself, so that help needs no checkpoint library."""
    assert parser.LAYOUTS == LAYOUTS


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_has_no_place_is_dropped_on_request(
    tmp_path: Path, lora: Params, config: str, capsys, layout: str
) -> None:
    """A value head is refused for every target, openpi's too, and left out with ``--drop``."""
    params = (lora if layout == "peft" else content.params(BASE_SPEC, 0)) | {"value_head/bias": np.ones(3, np.float32)}
    openpi.write(params, tmp_path / "params")
    out = tmp_path / ("out.npz" if layout == "paligemma_npz" else "out")
    arguments = ("convert", tmp_path / "params", "-o", out, "--to", layout, "--config-file", config)
    message = refusal(capsys, *arguments)
    assert f"{layout} has no place for " in message
    assert message.endswith("to leave them out say so: drop=True (--drop)")
    policy = ("--without-norm-stats", "--delta-actions", "none") if layout == "lerobot" else ()
    shown = document(capsys, *arguments, *policy, "--drop")
    assert shown["left_out"]["value_head/bias"] == "float32[3]"


def test_what_is_not_whole_is_not_written(tmp_path: Path, base: Params, capsys) -> None:
    """Of 50 parameters all are written or none, also where any name could be stored."""
    openpi.write({path: x for path, x in base.items() if path != "action_out_proj/bias"}, tmp_path / "params")
    message = refusal(capsys, "convert", tmp_path / "params", "-o", tmp_path / "out", "--to", "openpi", "--drop")
    assert message == (
        f"{tmp_path}/params: the checkpoint is not whole (pi0); get all of its files again\n"
        "  - action_out_proj/bias: expected, found nothing"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", ["openpi_pytorch", "lerobot"])
def test_a_release_is_no_whole_model(
    pi0_compat: Callable, tiny: Path, tmp_path: Path, sizes: Path, layout: str
) -> None:
    """A PaliGemma has no action expert, so no config makes it a pi0's file: the error says so, with and without one."""
    for options in ((), ("--config-file", sizes / "base.json")):
        result = pi0_compat("convert", tiny / "hugging_face", "--to", layout, "-o", tmp_path / "out", *options)
        assert result.status == 2
        assert f"a PaliGemma has no action expert, and {layout} holds a whole model: fine-tune from it" in result.err
