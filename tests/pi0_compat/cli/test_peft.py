"""PEFT adapters as a user has them: attached to a base, converted, compared; other kinds are refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.params import Params
from fixtures.specs import tiny, without_lora
from fixtures.writers import openpi, safetensors_file
from fixtures.writers.openpi import read_params
from pi0_compat import restore_params
from pi0_compat.layouts.torch.peft_names import WITH_BASE
from pi0_compat.layouts.torch.peft_settings import MERGE
from pi0_compat.lora.fold import fold
from pi0_compat.model.config import Pi0Config
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.cli.conftest import Result

SPEC = tiny("pi0", lora="both", num_kv_heads=2)
BASE = without_lora(SPEC)
SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Run = Callable[..., Result]
ROOTS = {
    "transformers": ("model.vlm.language_model", "model.dit"),
    "lerobot": (
        "model.paligemma_with_expert.paligemma.model.language_model",
        "model.paligemma_with_expert.gemma_expert.model",
    ),
    "openpi": ("paligemma_with_expert.paligemma.model.language_model", "paligemma_with_expert.gemma_expert.model"),
}


@pytest.fixture
def base(tmp_path: Path) -> Params:
    return openpi.build(BASE, tmp_path / "base")


def adapter(
    folder: Path, modules: dict[str, int], *, root: str = "transformers", alpha: float = 6.0, **settings: Any
) -> dict[str, np.ndarray]:
    """Write an adapter as PEFT trains one: a matrix for all heads, on these modules (with rank) of both experts."""
    tensors: dict[str, np.ndarray] = {}
    random = np.random.default_rng(0)
    for name, prefix in zip(("paligemma", "action_expert"), ROOTS[root], strict=True):
        expert: Any = BASE[name]  # type: ignore[literal-required]
        width, heads, kv = expert["width"], expert["num_heads"], expert["num_kv_heads"]
        dim, mlp = expert["head_dim"], expert["mlp_dim"]
        shapes = {
            "self_attn.q_proj": (heads * dim, width),
            "self_attn.k_proj": (kv * dim, width),
            "self_attn.v_proj": (kv * dim, width),
            "self_attn.o_proj": (width, heads * dim),
            "mlp.gate_proj": (mlp, width),
            "mlp.up_proj": (mlp, width),
            "mlp.down_proj": (width, mlp),
        }
        for layer in range(expert["depth"]):
            for module, rank in modules.items():
                outputs, inputs = shapes[module]
                place = f"base_model.model.{prefix}.layers.{layer}.{module}"
                tensors[f"{place}.lora_A.weight"] = random.normal(size=(rank, inputs)).astype("float32")
                tensors[f"{place}.lora_B.weight"] = random.normal(size=(outputs, rank)).astype("float32")
    folder.mkdir(exist_ok=True)
    safetensors_file.write(tensors, folder / WEIGHTS)
    first = next(iter(modules.values()))
    patterns = {module: rank for module, rank in modules.items() if rank != first}
    config = {
        "peft_type": "LORA",
        "r": first,
        "lora_alpha": alpha,
        "rank_pattern": patterns,
        "alpha_pattern": {module: alpha * rank / first for module, rank in patterns.items()},
        "target_modules": sorted(modules),
        "init_lora_weights": True,
    }
    (folder / SETTINGS).write_text(json.dumps(config | settings))
    return tensors


def delta(tensors: dict[str, np.ndarray], module: str, scale: float) -> np.ndarray:
    a, b = (tensors[f"base_model.model.{module}.lora_{matrix}.weight"].astype("float64") for matrix in "AB")
    return scale * b @ a


@pytest.mark.parametrize("root", ROOTS)
def test_an_adapter_of_peft_is_attached(pi0_compat: Run, tmp_path: Path, base: Params, root: str) -> None:
    """The model with the adapter attached is base plus scale * B A in every module, and base in all others."""
    tensors = adapter(
        tmp_path / "adapter", {"self_attn.q_proj": 3, "self_attn.v_proj": 3, "mlp.down_proj": 2}, root=root
    )
    done = pi0_compat("attach", tmp_path / "adapter", "--to", tmp_path / "base", "-o", tmp_path / "out")
    assert done.status == 0, done.err
    assert "scales, from adapter_config.json:\n  attention of paligemma: 2 = alpha 6 / rank 3\n" in done.out
    folded = pi0_compat("fold", tmp_path / "out", "-o", tmp_path / "folded", "--dtype", "float32")
    assert folded.status == 0, folded.err
    found = read_params(tmp_path / "folded" / "params")
    language = ROOTS[root][0]
    for layer in range(BASE["paligemma"]["depth"]):
        q = delta(tensors, f"{language}.layers.{layer}.self_attn.q_proj", 2.0)
        path = "PaliGemma/llm/layers/attn/q_einsum/w"
        moved = (found[path] - base[path].astype("float64"))[layer]  # heads, width, head dim
        np.testing.assert_allclose(moved.transpose(0, 2, 1).reshape(q.shape), q, atol=1e-4)
        path = "PaliGemma/llm/layers/attn/kv_einsum/w"
        moved = (found[path] - base[path].astype("float64"))[layer]
        v = delta(tensors, f"{language}.layers.{layer}.self_attn.v_proj", 2.0)
        np.testing.assert_array_equal(moved[0], 0)
        np.testing.assert_allclose(moved[1].transpose(0, 2, 1).reshape(v.shape), v, atol=1e-4)
        path = "PaliGemma/llm/layers/mlp/linear"
        moved = (found[path] - base[path].astype("float64"))[layer]
        down = delta(tensors, f"{language}.layers.{layer}.mlp.down_proj", 2.0)
        np.testing.assert_allclose(moved.T, down, atol=1e-4)
    untouched = [path for path in base if "llm" not in path]
    assert_same_bits({path: found[path] for path in untouched}, {path: base[path] for path in untouched})


def test_an_adapter_of_peft_is_converted(pi0_compat: Run, tmp_path: Path, base: Params) -> None:
    """`convert ADAPTER --to openpi` writes what `attach` takes, and needs a config for the heads."""
    adapter(tmp_path / "adapter", {"mlp.down_proj": 2})
    (tmp_path / "model.json").write_text(json.dumps(BASE))
    refused = pi0_compat("convert", tmp_path / "adapter", "--to", "openpi", "-o", tmp_path / "no")
    assert refused.status == 2
    assert refused.err == (
        f"pi0-compat convert: {tmp_path}/adapter: PEFT's adapters alone, whose shapes do not show the heads and the "
        "depth of their model; name it: --config or --config-file, or attach them to their base: attach --to BASE\n"
    )
    arguments = ("--to", "openpi", "-o", tmp_path / "adapters", "--config-file", tmp_path / "model.json")
    done = pi0_compat("convert", tmp_path / "adapter", *arguments)
    assert done.status == 0, done.err
    for place, name in ((tmp_path / "adapters", "one"), (tmp_path / "adapter", "two")):
        assert pi0_compat("attach", place, "--to", tmp_path / "base", "-o", tmp_path / name).status == 0
    assert_same_bits(read_params(tmp_path / "one" / "params"), read_params(tmp_path / "two" / "params"))


def test_what_convert_writes_comes_back(pi0_compat: Run, tmp_path: Path) -> None:
    """`convert --to peft`, then `attach`: the same function as before, and `diff` compares the two adapters."""
    params = openpi.build(SPEC, tmp_path / "lora")
    (tmp_path / "model.json").write_text(json.dumps(SPEC))
    config = ("--config-file", tmp_path / "model.json")
    assert pi0_compat("convert", tmp_path / "lora", "--to", "peft", "-o", tmp_path / "peft", *config).status == 0
    assert pi0_compat("extract", tmp_path / "lora", "-o", tmp_path / "base", "--base").status == 0
    assert pi0_compat("attach", tmp_path / "peft", "--to", tmp_path / "base", "-o", tmp_path / "again").status == 0
    model = Pi0Config.from_json({**SPEC})
    again = restore_params(tmp_path / "again" / "params")
    expected, found = fold(params, model).params, fold(again, model).params
    for path in expected:
        np.testing.assert_allclose(found[path], expected[path], atol=1e-4)
    result = pi0_compat("diff", tmp_path / "peft", tmp_path / "peft", *config)
    assert result.status == 0, result.err


BAD: dict[str, Any] = {
    "peft_type": "LOHA",
    "use_dora": True,
    "bias": "all",
    "lora_bias": True,
    "fan_in_fan_out": True,
    "layers_to_transform": [0],
    "modules_to_save": ["action_in_proj"],
    "layer_replication": [[0, 1]],
    "trainable_token_indices": [3],
    "use_qalora": True,
    "target_parameters": ["x"],
}


@pytest.mark.parametrize("name", BAD)
def test_another_kind_is_refused(pi0_compat: Run, tmp_path: Path, base: Params, name: str) -> None:
    """An option that makes more of an adapter than two matrices is named with its value and the way out."""
    adapter(tmp_path / "adapter", {"mlp.down_proj": 2}, **{name: BAD[name]})
    done = pi0_compat("attach", tmp_path / "adapter", "--to", tmp_path / "base", "-o", tmp_path / "out")
    assert done.status == 2
    assert done.err.startswith(f"pi0-compat attach: {tmp_path}/adapter/{SETTINGS}: {name} is {BAD[name]!r}: ")
    assert done.err.endswith(f"; {MERGE}\n")


@pytest.mark.parametrize("kind", ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga"])
def test_an_adapter_of_another_base_is_refused(pi0_compat: Run, tmp_path: Path, base: Params, kind: str) -> None:
    """PiSSA and its kin take the first adapter out of the base, so on the released base they are another function."""
    adapter(tmp_path / "adapter", {"mlp.down_proj": 2}, init_lora_weights=kind)
    done = pi0_compat("attach", tmp_path / "adapter", "--to", tmp_path / "base", "-o", tmp_path / "out")
    assert done.status == 2
    assert done.err == (
        f"pi0-compat attach: {tmp_path}/adapter/{SETTINGS}: init_lora_weights is {kind!r}: it belongs to a base from "
        "which the adapter's first values were taken out, and is another function on the released one; save it again "
        f"with PEFT's path_initial_model_for_weight_conversion, or {MERGE}\n"
    )


@pytest.mark.parametrize("kind", [True, False, "gaussian", "eva", "orthogonal"])
def test_other_first_values_are_read(pi0_compat: Run, tmp_path: Path, base: Params, kind: object) -> None:
    """First values that leave the base as it is make a plain adapter."""
    adapter(tmp_path / "adapter", {"mlp.down_proj": 2}, init_lora_weights=kind)
    done = pi0_compat("attach", tmp_path / "adapter", "--to", tmp_path / "base", "-o", tmp_path / "out")
    assert done.status == 0, done.err


def test_a_recorded_rank_that_is_not_the_tensors_is_refused(pi0_compat: Run, tmp_path: Path, base: Params) -> None:
    """A lost rank_pattern is named, with both ranks: alpha's may be lost with it."""
    adapter(tmp_path / "adapter", {"mlp.down_proj": 2}, r=4, lora_alpha=6)
    done = pi0_compat("attach", tmp_path / "adapter", "--to", tmp_path / "base", "-o", tmp_path / "out")
    module = "model.vlm.language_model.layers.0.mlp.down_proj"
    assert done.status == 2
    assert done.err == (
        f"pi0-compat attach: {tmp_path}/adapter/{SETTINGS}: the rank of {module} is 4, but "
        f"base_model.model.{module}.lora_A.weight has rank 2; PEFT cannot load it either: set r or rank_pattern to the "
        "ranks of the tensors, and check alpha_pattern\n"
    )


OTHERS = {
    "model.action_in_proj.lora_A.weight": "an adapter of a projection",
    "model.vlm.vision_tower.encoder.layers.0.mlp.fc1.lora_A.weight": "an adapter of the image encoder",
    "model.dit.layers.0.mlp.down_proj.lora_magnitude_vector": "the magnitudes of a DoRA adapter, without which",
    "model.dit.layers.0.mlp.down_proj.lora_B.bias": "a bias that was trained beside the adapter",
    "model.vlm.language_model.embed_tokens.lora_embedding_A": "an adapter of a token table",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_tensors_are_named(pi0_compat: Run, tmp_path: Path, base: Params, name: str) -> None:
    """A tensor that pi0 has no place for is refused with what it is, and the way out."""
    tensors = adapter(tmp_path / "adapter", {"mlp.down_proj": 2})
    tensors[f"base_model.model.{name}"] = np.ones((2, 2), np.float32)
    safetensors_file.write(tensors, tmp_path / "adapter" / WEIGHTS)
    done = pi0_compat("attach", tmp_path / "adapter", "--to", tmp_path / "base", "-o", tmp_path / "out")
    assert done.status == 2
    assert f"1 tensors have no place in the model, for example base_model.model.{name}; " in done.err
    assert f"base_model.model.{name} is {OTHERS[name]}" in done.err
    assert done.err.endswith(f": {WITH_BASE if 'lora_A.weight' in name else MERGE}\n")


def test_scales_that_differ_are_refused(pi0_compat: Run, tmp_path: Path, base: Params) -> None:
    """openpi has one scale for a group; another alpha in one layer is named with both scales."""
    pattern = {r"dit\.layers\.1\.mlp\.down_proj": 3.0}
    adapter(tmp_path / "adapter", {"mlp.down_proj": 2}, alpha_pattern=pattern)
    done = pi0_compat("attach", tmp_path / "adapter", "--to", tmp_path / "base", "-o", tmp_path / "out")
    assert done.status == 2
    assert "the scale of model.dit.layers.1.mlp.down_proj is 1.5, the model has 3.0" in done.err


def test_fold_names_the_way_for_an_adapter(pi0_compat: Run, tmp_path: Path) -> None:
    """`fold` of PEFT's adapters alone says to attach them, which works."""
    adapter(tmp_path / "adapter", {"mlp.down_proj": 2})
    done = pi0_compat("fold", tmp_path / "adapter", "-o", tmp_path / "out")
    assert done.status == 2
    assert done.err == (
        f"pi0-compat fold: {tmp_path}/adapter: expected a checkpoint in openpi's layout, found PEFT's adapters; attach "
        "them to their base first: pi0-compat attach ADAPTER --to BASE\n"
    )
