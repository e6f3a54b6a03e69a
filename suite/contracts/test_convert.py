"""Conversion: the files written next to the weights, and that a conversion leaves all of its output or none."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import content
from fixtures.params import Array, Params, read_npz
from fixtures.specs import TINY_QUERY_HEADS, ModelSpec, tiny
from fixtures.writers import hugging_face, openpi, openpi_layout, paligemma_npz, safetensors_file
from suite.contracts.checkpoints import Checkpoint, write_checkpoint
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_same_bits, refused
from suite.writing.cases import digests
from suite.writing.sizes import heads_as_wide_as_the_model

NEEDS = ("convert",)
LAYOUT = "openpi_pytorch"
FAMILIES = {"pi0": tiny("pi0", num_kv_heads=2), "pi05": tiny("pi05")}


@contract(source="openpi convert_jax_model_to_pytorch.py:544-550; docs/bugs.md#g11", needs=NEEDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_config_tells_what_the_model_is(subject: Subject, tmp_path: Path, family: str) -> None:
    """``config.json`` has openpi's keys, including family, prompt length and precision, and the complete model spec."""
    spec: dict[str, Any] = {**FAMILIES[family]}
    checkpoint = write_checkpoint(FAMILIES[family], tmp_path / "params")
    subject.convert(spec, checkpoint.path, LAYOUT, str(tmp_path / "out"))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    sizes = ("action_dim", "action_horizon", "max_token_len")
    assert {name: config[name] for name in sizes} == {name: spec[name] for name in sizes}
    assert (config["pi05"], config["precision"]) == (family == "pi05", "float32")
    assert {name: config["model"][name] for name in spec} == spec


@contract(source="docs/bugs.md#g9, #g11", needs=(*NEEDS, "load", "openpi_pytorch"))
def test_recorded_sizes_count(subject: Subject, tmp_path: Path) -> None:
    """Six heads of size ten and ten heads of size six have the same tensors; a file of one is refused for the other."""
    written, other = (tiny(num_kv_heads=TINY_QUERY_HEADS) for _ in range(2))
    for expert in ("paligemma", "action_expert"):
        other[expert] = {**other[expert], "num_heads": 10, "num_kv_heads": 10, "head_dim": 6}
    checkpoint = write_checkpoint(written, tmp_path / "params")
    subject.convert(written, checkpoint.path, LAYOUT, str(tmp_path / "out"))
    with refused("num_heads", "6", "10"):
        subject.load(other, {"kind": LAYOUT, "path": str(tmp_path / "out")}, seed=0)


@contract(source="openpi convert_jax_model_to_pytorch.py:536; openpi #638, #810; docs/bugs.md#g4", needs=NEEDS)
def test_assets_go_along(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """A step's norm stats are copied along with its parameters, and nothing warns of them."""
    checkpoint = write_checkpoint(base_spec, tmp_path / "1000" / "params")
    stats = tmp_path / "1000" / "assets" / "droid" / "norm_stats.json"
    stats.parent.mkdir(parents=True)
    array = {"mean": [0.5], "std": [1.0]}
    stats.write_text(json.dumps({"norm_stats": {"state": array, "actions": array}}))
    warnings = subject.convert(base_spec, checkpoint.path, LAYOUT, str(tmp_path / "out"))["warnings"]
    assert digests(tmp_path / "out" / "assets") == digests(tmp_path / "1000" / "assets")
    assert not any("assets" in text for text in warnings), warnings


# Norm stats that no pi0.5 can normalize by.
_ARRAY = {"mean": [0.0, 0.5], "std": [1.0, 2.0], "q01": [-2.3, -4.1], "q99": [2.3, 5.1]}
WRONG_STATS = {
    "page": "<!doctype html><html>404</html>",
    "nothing": "",
    "no_quantiles": {"mean": [0.0, 0.5], "std": [1.0, 2.0], "q01": None, "q99": None},
    "not_a_number": _ARRAY | {"q99": [2.3, float("nan")]},
    "other_sizes": _ARRAY | {"q01": [-2.3]},
    "quantiles_of_no_spread": _ARRAY | {"q01": [-2.3, 5.1]},
}


@contract(source="openpi #849, #971, #763, #1025; lerobot #3720", needs=(*NEEDS, "pi05"))
@pytest.mark.parametrize("kind", WRONG_STATS)
def test_wrong_norm_stats_are_announced(subject: Subject, tmp_path: Path, kind: str) -> None:
    """Norm stats that a pi0.5 cannot normalize by go along with a warning that names their file."""
    checkpoint = write_checkpoint(tiny("pi05"), tmp_path / "1000" / "params")
    file = tmp_path / "1000" / "assets" / "droid" / "norm_stats.json"
    file.parent.mkdir(parents=True)
    wrong: Any = WRONG_STATS[kind]
    document = {"norm_stats": {"state": _ARRAY, "actions": wrong}}
    file.write_text(wrong if isinstance(wrong, str) else json.dumps(document))
    warnings = subject.convert(checkpoint.spec, checkpoint.path, LAYOUT, str(tmp_path / "out"))["warnings"]
    assert any(str(file) in text for text in warnings), warnings


@contract(source="openpi convert_jax_model_to_pytorch.py:536; openpi #638, #810; docs/bugs.md#g4", needs=NEEDS)
def test_missing_assets_are_announced(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """If a step has no norm stats, a warning names the missing folder."""
    checkpoint = write_checkpoint(base_spec, tmp_path / "1000" / "params")
    warnings = subject.convert(base_spec, checkpoint.path, LAYOUT, str(tmp_path / "out"))["warnings"]
    assert any(str(tmp_path / "1000" / "assets") in text for text in warnings), warnings


@contract(source="openpi convert_jax_model_to_pytorch.py:538: removes an existing output", needs=NEEDS)
@pytest.mark.parametrize("place", ["folder", "file"])
def test_nothing_is_overwritten(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, place: str) -> None:
    """If something already exists at the output path, the conversion is refused by name and leaves it unchanged."""
    out = tmp_path / "out"
    occupied = out / "model.safetensors" if place == "folder" else out
    occupied.parent.mkdir(exist_ok=True)
    occupied.write_text("mine")
    before = digests(tmp_path)
    with refused(str(out)):
        subject.convert(base_checkpoint.spec, base_checkpoint.path, LAYOUT, str(out))
    assert digests(tmp_path) == before


@contract(source="docs/bugs.md#c18, #d1", needs=NEEDS)
def test_failed_conversion_leaves_nothing(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """A checkpoint whose arrays cannot be read is refused by name, and nothing appears at or next to the output."""
    checkpoint = write_checkpoint(base_spec, tmp_path / "params")
    for data in (tmp_path / "params" / "ocdbt.process_0" / "d").iterdir():
        data.write_bytes(data.read_bytes()[:100])
    out = tmp_path / "made" / "out"
    out.parent.mkdir()
    with refused(checkpoint.path):
        subject.convert(base_spec, checkpoint.path, LAYOUT, str(out))
    assert not list(out.parent.iterdir())


@contract(source="docs/bugs.md#c5, #c11", needs=NEEDS)
def test_other_sizes_are_refused(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A checkpoint whose sizes differ from the model's is refused, and the error has the parameter and both shapes."""
    deeper = tiny(depth=4)
    with refused(base_checkpoint.path, "PaliGemma/llm/layers/mlp/linear", "[4, 88, 56]", "[3, 88, 56]"):
        subject.convert(deeper, base_checkpoint.path, LAYOUT, str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


@contract(source="openpi convert_jax_model_to_pytorch.py:525; docs/bugs.md#g6", needs=NEEDS)
def test_unknown_layout_is_refused_first(subject: Subject, tmp_path: Path) -> None:
    """An unknown layout is refused by name before anything is read, and the error lists the known layouts."""
    with refused("gguf", re.compile("openpi[-_]pytorch")):
        subject.convert(tiny(), str(tmp_path / "no_checkpoint"), "gguf", str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


@contract(source="docs/bugs.md#c3, #rule-5", needs=NEEDS)
@pytest.mark.parametrize("path", ["action_in_proj/bias", "PaliGemma/llm/layers/mlp_1/linear"])
def test_incomplete_checkpoint_is_not_converted(subject: Subject, tmp_path: Path, path: str) -> None:
    """A checkpoint without a parameter of its model is refused by the parameter's name, and nothing is written."""
    params = content.params(tiny(), 0, "float32")
    del params[path]
    openpi.write(params, tmp_path / "params")
    with refused(path):
        subject.convert(tiny(), str(tmp_path / "params"), LAYOUT, str(tmp_path / "out"))
    assert [file.name for file in tmp_path.iterdir()] == ["params"]


@contract(source="docs/bugs.md#rule-5; RLinf #792", needs=NEEDS)
@pytest.mark.parametrize("path", ["value_head/kernel", "PaliGemma/llm/layers/post_ffw_norm/scale"])
def test_stray_is_not_lost(subject: Subject, tmp_path: Path, path: str) -> None:
    """A parameter that the layout has no place for is refused by its name, and nothing is written."""
    spec = heads_as_wide_as_the_model()
    openpi.write(content.params(spec, 0, "float32") | {path: np.ones((3, 4), np.float32)}, tmp_path / "params")
    with refused(path):
        subject.convert(spec, str(tmp_path / "params"), LAYOUT, str(tmp_path / "out"))
    assert [file.name for file in tmp_path.iterdir()] == ["params"]


PALIGEMMA: dict[str, Callable[[Path], Params]] = {
    "paligemma_npz": read_npz,
    "hugging_face": lambda path: safetensors_file.read(path / "model.safetensors"),
}
WRITTEN: dict[str, Callable[[Params], Params]] = {
    "paligemma_npz": lambda params: {paligemma_npz.member(path): _bits(x) for path, x in params.items()},
    "hugging_face": lambda params: hugging_face.tensors(params, "before_4_52", padded=False),
}


def _bits(array: Array) -> Array:
    """View bfloat16 as two raw bytes, which is how an npz stores it."""
    return array.view("V2") if array.dtype.itemsize == 2 else array


@contract(source="big_vision's and transformers' releases; docs/bugs.md#c7, #f6", needs=("convert", "every_layout"))
@pytest.mark.parametrize("layout", PALIGEMMA)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_paligemma_part_lands(subject: Subject, base_spec: ModelSpec, tmp_path: Path, layout: str, dtype: str) -> None:
    """The PaliGemma part of a pi0, and nothing else, is written bit for bit under the names of the public releases."""
    params = openpi.build(base_spec, tmp_path / "params", dtype=dtype)
    subject.convert(base_spec, str(tmp_path / "params"), layout, str(tmp_path / "out.npz"))
    part = {path: params[path] for path in openpi_layout.paligemma_shapes(base_spec)}
    assert_same_bits(PALIGEMMA[layout](tmp_path / "out.npz"), WRITTEN[layout](part))


@contract(source="docs/bugs.md#g1", needs=("convert", "every_layout", "lora"))
@pytest.mark.parametrize("layout", PALIGEMMA)
def test_adapters_of_paligemma_are_refused(
    subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path, layout: str
) -> None:
    """A PaliGemma with adapters is not written without them: the error says to fold, and nothing is written."""
    with refused("PaliGemma/llm/layers/attn/", "lora_a", "fold"):
        subject.convert(lora_checkpoint.spec, lora_checkpoint.path, layout, str(tmp_path / "out.npz"))
    assert not list(tmp_path.iterdir())


# The delta of each module in torch's layout, [outputs, inputs], with its heads concatenated.
DELTAS: dict[str, Callable[[Array, Array], Array]] = {
    "self_attn.q_proj": lambda a, b: np.concatenate([(a[n] @ b[n]).T for n in range(len(a))]),
    "self_attn.o_proj": lambda a, b: np.concatenate([(head @ b.sum(0)).T for head in a], axis=1),
    "mlp.down_proj": lambda a, b: (a @ b).T,
}
SITES = {
    "self_attn.q_proj": "attn/q_einsum/",
    "self_attn.o_proj": "attn/attn_vec_einsum/",
    "mlp.down_proj": "mlp/linear_",
}


@contract(source="openpi lora.py:67; docs/bugs.md#a5, #e9", needs=("convert", "every_layout", "lora"))
@pytest.mark.parametrize("module", DELTAS)
def test_peft_modules_add_what_the_adapters_add(
    subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path, module: str
) -> None:
    """In every layer, a PEFT module's scale and matrices give openpi's delta, summed over heads where openpi sums."""
    spec, params = lora_checkpoint.spec["paligemma"], lora_checkpoint.params
    subject.convert(lora_checkpoint.spec, lora_checkpoint.path, "peft", str(tmp_path / "out"))
    tensors = safetensors_file.read(tmp_path / "out" / "adapter_model.safetensors")
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    adapters: Any = spec["lora"]
    lora = adapters["ffn" if "mlp" in module else "attn"]
    for layer in range(spec["depth"]):
        name = f"model.vlm.language_model.layers.{layer}.{module}"
        lora_b, lora_a = (tensors[f"base_model.model.{name}.lora_{x}.weight"] for x in "BA")
        rank, alpha = (_pattern(settings[f"{key}_pattern"], name) for key in ("rank", "alpha"))
        assert lora_b.shape[1] == lora_a.shape[0] == rank
        a, b = (params[f"PaliGemma/llm/layers/{SITES[module]}lora_{x}"][layer].astype(np.float64) for x in "ab")
        expected = lora["alpha"] / lora["rank"] * DELTAS[module](a, b)
        assert_close(alpha / rank * lora_b.astype(np.float64) @ lora_a, expected, rtol=1e-4, atol=1e-5, name=name)


def _pattern(patterns: dict[str, float], name: str) -> float:
    """Look up a module's value as PEFT does."""
    return next(value for pattern, value in patterns.items() if re.fullmatch(pattern, name))
