"""`pi0-compat diff`: structure and values of two checkpoints, across layouts, biggest differences first."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest

from fixtures import content
from fixtures.params import Params
from fixtures.writers import hugging_face, openpi, openpi_pytorch, paligemma_npz, safetensors_file
from pi0_compat.cli import NO, REFUSED, YES
from tests.pi0_compat.cli.conftest import SPEC

EMBED_TOKENS = "model.language_model.embed_tokens.weight"
Q, SCALE = "PaliGemma/llm/layers/attn/q_einsum/w", "PaliGemma/llm/final_norm/scale"


def edited(folder: Path, edit: Callable[[Params], None]) -> Path:
    """Write the tiny checkpoint with changed parameters."""
    params = {path: array.copy() for path, array in content.params(SPEC).items()}
    edit(params)
    openpi.write(params, folder)
    return folder


@pytest.mark.parametrize("other", ["openpi", "pytorch"])
def test_the_same_in_another_layout(pi0_compat: Callable, tiny: Path, other: str) -> None:
    """A whole model is the same in openpi's layout and in its PyTorch layout, whose unused head is named."""
    result = pi0_compat("diff", tiny / "openpi", tiny / other)
    assert result.status == YES
    assert "the same: all 50 arrays\n" in result.out
    head = "not compared: paligemma_with_expert.gemma_expert.lm_head.weight, in B alone: no model uses it"
    assert (head in result.out) == (other == "pytorch")


@pytest.mark.parametrize(("left", "right"), [("hugging_face", "paligemma.npz"), ("paligemma.npz", "hugging_face")])
def test_releases_in_two_layouts(pi0_compat: Callable, tiny: Path, left: str, right: str) -> None:
    """PaliGemma is the same from Google and from Hugging Face, whose additional rows are named."""
    result = pi0_compat("diff", tiny / left, tiny / right)
    assert (result.status, "the same: all 32 arrays\n" in result.out) == (YES, True)
    assert "not compared: model.language_model.embed_tokens.weight[509:], in " in result.out


def test_a_tied_head_is_not_compared(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """A release that kept its output layer, tied to the token table, is the same as one that did not."""
    release = hugging_face.tensors(paligemma_npz.contents(SPEC))
    hugging_face.write_tensors(release | {"lm_head.weight": release[EMBED_TOKENS]}, tmp_path / "kept")
    for other in ("paligemma.npz", "hugging_face"):
        result = pi0_compat("diff", tmp_path / "kept", tiny / other)
        assert result.status == YES, result.out
        assert "not compared: lm_head.weight, in A alone: no model uses it" in result.out


def test_a_head_that_is_the_table_is_compared(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """Between two releases in one layout, an output layer without a token table beside it is that table."""
    release = hugging_face.tensors(paligemma_npz.contents(SPEC))
    table = release.pop(EMBED_TOKENS)
    hugging_face.write_tensors(release | {"lm_head.weight": table}, tmp_path / "head")
    result = pi0_compat("diff", tmp_path / "head", tiny / "hugging_face")
    assert result.status == NO
    assert "  - lm_head.weight: only in A, " in result.out


def test_a_part_of_a_model(pi0_compat: Callable, tiny: Path) -> None:
    """The part that a release lacks counts as structure, and the rest is the same."""
    result = pi0_compat("diff", tiny / "openpi", tiny / "gemma")
    assert result.status == NO
    assert "structure: 41 arrays not on both sides in the same shape\n" in result.out
    assert (
        "  - action_in_proj/kernel: only in A, float32[9, 36]\n"
        in pi0_compat("diff", tiny / "openpi", tiny / "gemma", "--all").out
    )
    assert "  ... and 21 more\nthe same: 9 arrays\n" in result.out


def test_values_biggest_first(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """Arrays that differ are listed by decreasing relative distance, with the numbers of the change."""

    def edit(params: Params) -> None:
        params[Q] *= np.float32(1.5)
        params[SCALE][0] += np.float32(0.25)

    result = pi0_compat("diff", tiny / "openpi", edited(tmp_path / "params", edit))
    assert result.status == NO
    lines = result.out.splitlines()
    assert lines[2] == "values: other in 2 arrays; |A - B| / max(|A|, |B|), biggest first"
    assert lines[3].startswith(f"  3.33e-01  {Q}: 100.0% of the values, at most ")
    assert lines[4].split(": ")[1] == "1.8% of the values, at most 0.25 apart"
    assert lines[5:] == ["the same: 48 arrays"]


def test_structure(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """Arrays on one side alone, or in another shape, have their own signs."""

    def edit(params: Params) -> None:
        params["extra"] = params.pop(SCALE)
        params["action_out_proj/bias"] = params["action_out_proj/bias"][:5]

    result = pi0_compat("diff", tiny / "openpi", edited(tmp_path / "params", edit))
    assert result.out.splitlines()[2:] == [
        "structure: 3 arrays not on both sides in the same shape",
        f"  - {SCALE}: only in A, float32[56]",
        "  ~ action_out_proj/bias: float32[9] in A, float32[5] in B",
        "  + extra: only in B, float32[56]",
        "the same: 48 arrays",
        "B is not whole: 1 problem",
        f"  - {SCALE}: expected, found nothing",
    ]


def test_values_that_are_not_finite_come_first(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """NaN on one side is the biggest difference, with distance null in the document; NaN on both sides is the same."""

    def edit(params: Params) -> None:
        params[SCALE][0] = np.nan
        params[Q] *= np.float32(-1)

    changed = edited(tmp_path / "params", edit)
    result = pi0_compat("diff", tiny / "openpi", changed)
    assert f"       inf  {SCALE}: 1.8% of the values, not finite on one side" in result.out.splitlines()[3]
    assert result.out.splitlines()[4].startswith("  2.00e+00")
    document = pi0_compat("diff", tiny / "openpi", changed, "--json").document
    assert [(entry["path"], entry["relative"]) for entry in document["values"]] == [(SCALE, None), (Q, 2.0)]
    assert pi0_compat("diff", changed, changed).status == YES


def test_rounding_is_a_matter_of_tolerance(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """The same model in bfloat16 differs in every array, with both dtypes shown; within a tolerance it is the same."""
    openpi.build(SPEC, tmp_path / "params", dtype="bfloat16")
    result = pi0_compat("diff", tiny / "openpi", tmp_path / "params")
    assert result.status == NO
    assert "float32 -> bfloat16" in result.out
    assert pi0_compat("diff", tiny / "openpi", tmp_path / "params", "--tolerance", "1e-2").status == YES
    assert pi0_compat("diff", tiny / "openpi", tmp_path / "params", "--tolerance", "1e-5").status == NO


def test_an_equal_value_in_another_dtype_differs(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """Values that both dtypes hold exactly have distance 0, but the dtype still differs."""

    def edit(params: Params) -> None:
        params[Q] = params[Q].astype(np.float64)

    result = pi0_compat("diff", tiny / "openpi", edited(tmp_path / "params", edit))
    assert result.status == NO
    assert f"  0.00e+00  {Q}: 0.0% of the values, at most 0 apart; float32 -> float64" in result.out


def test_adapters_alone_are_compared_by_their_names(pi0_compat: Callable, tmp_path: Path) -> None:
    """Two checkpoints in the same PyTorch layout are compared directly, PEFT's adapters included."""
    for name, value in (("a", 1.0), ("b", 2.0)):
        (tmp_path / name).mkdir()
        tensors = {"layer.lora_A.weight": np.full((2, 3), value, np.float32)}
        safetensors_file.write(tensors, tmp_path / name / "adapter_model.safetensors")
    result = pi0_compat("diff", tmp_path / "a", tmp_path / "b")
    assert "  5.00e-01  layer.lora_A.weight: 100.0% of the values, at most 1 apart\n" in result.out


def test_unknown_head_sizes_need_a_config(pi0_compat: Callable, tiny: Path, sizes: Path, tmp_path: Path) -> None:
    """If neither side records the head size, the config is required; with it, the two compare."""
    openpi_pytorch.build(SPEC, tmp_path / "pytorch")
    result = pi0_compat("diff", tmp_path / "pytorch", tiny / "hugging_face")
    assert result.status == REFUSED
    assert "paligemma.num_heads, paligemma.num_kv_heads, paligemma.head_dim" in result.err
    assert "cannot be read from its shapes; name the model: --config or --config-file\n" in result.err
    with_sizes = ("--config-file", sizes / "base.json")
    assert pi0_compat("diff", tmp_path / "pytorch", tiny / "hugging_face", *with_sizes).status == NO


def test_adapters_without_settings_do_not_compare(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """PEFT's adapters are compared with their scale, and one that lacks its settings is named by their file."""
    safetensors_file.write({"layer.lora_A.weight": np.ones((2, 3))}, tmp_path / "adapter_model.safetensors")
    result = pi0_compat("diff", tiny / "openpi", tmp_path)
    assert result.status == REFUSED
    assert f"pi0-compat diff: {tmp_path}/adapter_config.json: is no settings of a PEFT adapter (" in result.err


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf"])
def test_a_tolerance_is_a_number(pi0_compat: Callable, tiny: Path, tolerance: str) -> None:
    """A negative tolerance, or one that is no number, is refused."""
    result = pi0_compat("diff", tiny / "openpi", tiny / "openpi", f"--tolerance={tolerance}")
    assert result.status == REFUSED
    assert result.err == f"pi0-compat diff: --tolerance is {float(tolerance)}; expected a number of 0 or more\n"


def test_the_document(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """The JSON has the members that the help describes."""

    def edit(params: Params) -> None:
        params[Q][0] = 0
        del params[SCALE]

    changed = edited(tmp_path / "params", edit)
    document = pi0_compat("diff", tiny / "openpi", changed, "--json").document
    leaf = {"shape": [3, 6, 56, 10], "dtype": "float32"}
    (values,) = document.pop("values")
    assert {name: values[name] for name in ("path", "differing", "size", "left", "right")} == {
        "path": Q,
        "differing": 3360,
        "size": 10080,
        "left": leaf,
        "right": leaf,
    }
    assert document == {
        "command": "diff",
        "left": {"path": str(tiny / "openpi"), "layout": "openpi"},
        "right": {"path": str(changed), "layout": "openpi"},
        "differ": True,
        "same": 48,
        "structure": [{"path": SCALE, "left": {"shape": [56], "dtype": "float32"}, "right": None}],
        "unused": [],
        "problems": {"left": [], "right": [f"{SCALE}: expected, found nothing"]},
        "norm_stats": [],
    }


def test_a_url_is_downloaded(pi0_compat: Callable, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of a remote checkpoint are read from the cache, and the output shows its URL."""
    monkeypatch.setenv("PI0_COMPAT_CACHE", str(tmp_path / "cache"))
    fsspec.filesystem("memory").put(str(tiny / "gemma"), "/diff/gemma", recursive=True)
    result = pi0_compat("diff", "memory://diff/gemma", tiny / "gemma")
    assert (result.status, result.out.splitlines()[0]) == (YES, "A: memory://diff/gemma (gemma_flax)")


def test_what_both_lack_is_said(pi0_compat: Callable, tmp_path: Path) -> None:
    """Two checkpoints that lack the same are the same in what they have, and neither is called whole."""
    path = "action_out_proj/bias"

    def edit(params: Params) -> None:
        del params[path]

    one = edited(tmp_path / "one", edit)
    result = pi0_compat("diff", one, one)
    assert result.status == YES
    for side in "AB":
        assert f"{side} is not whole: 1 problem\n  - {path}: expected, found nothing" in result.out
    lines = [f"{path}: expected, found nothing"]
    assert pi0_compat("diff", one, one, "--json").document["problems"] == {"left": lines, "right": lines}


def test_files_of_another_model_are_refused(pi0_compat: Callable, tmp_path: Path) -> None:
    """Two files of a Llama are not compared: they are no part of a pi0, as every other command says."""
    names = ("model.layers.0.self_attn.q_proj.weight", "model.norm.weight")
    safetensors_file.write(dict.fromkeys(names, np.ones((4, 4), np.float32)), tmp_path / "model.safetensors")
    result = pi0_compat("diff", tmp_path, tmp_path)
    assert result.status == REFUSED
    assert "this is a language model by the names that Llama, Mistral and Gemma 1 share" in result.err
