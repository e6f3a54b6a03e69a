"""`pi0-compat inspect`: every layout is recognized from metadata, and missing parts are named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fixtures import content, golden_cases, old_checkpoints
from fixtures.damage.operations import files as damaged_files
from fixtures.writers import hugging_face, openpi, openpi_pytorch, safetensors_file
from pi0_compat import Pi0Config, save_params
from pi0_compat.cli import NO, REFUSED, YES
from tests.pi0_compat.cli.conftest import KINDS, LORA, SPEC

ATTENTION = "attn_vec_einsum, kv_einsum, q_einsum"


@pytest.mark.parametrize("name", KINDS)
def test_every_layout_is_recognized(pi0_compat: Callable, tiny: Path, name: str) -> None:
    """Layout, family and sizes are those of the fixture."""
    result = pi0_compat("inspect", tiny / name, "--json")
    document = result.document
    assert result.status == YES
    assert (document["layout"], document["family"]) == KINDS[name]
    assert document["sizes"]["paligemma"].items() <= SPEC["paligemma"].items()
    assert {"width", "depth", "mlp_dim"} <= document["sizes"]["paligemma"].keys()
    assert document["values"] > 90_000
    assert sum(document["bytes"].values()) == 4 * document["values"]
    assert document["missing"] == []


def test_all_sizes_of_a_whole_model(pi0_compat: Callable, tiny: Path) -> None:
    """For openpi's own layout every size is known that is in a shape."""
    sizes = pi0_compat("inspect", tiny / "openpi", "--json").document["sizes"]
    in_no_shape = {"dtype", "action_horizon", "max_token_len"}
    without_lora = {
        part: {k: v for k, v in SPEC[part].items() if k != "lora"} for part in ("paligemma", "action_expert")
    }
    assert sizes == {k: v for k, v in SPEC.items() if k not in in_no_shape} | without_lora


def test_the_text(pi0_compat: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of a golden checkpoint, line by line."""
    monkeypatch.chdir(golden_cases.GOLDEN)
    assert pi0_compat("inspect", "pi0_lora_scaled/params").out.splitlines() == [
        "pi0_lora_scaled/params",
        "  family      pi0 with LoRA",
        "  layout      openpi, orbax: the parameters alone",
        "  written by  orbax, as 0.11 does: OCDBT, zarr 2",
        "  holds       177,380 numbers in 70 arrays: float32 709.5 kB",
        "  vision      SigLIP (depth 2, mlp_dim 44, num_heads 2, patch_size 14, width 24); images of 28 pixels",
        "  language    Gemma (depth 3, head_dim 10, mlp_dim 88, num_heads 4, num_kv_heads 1, width 56); 509 tokens",
        "  expert      Gemma (depth 3, head_dim 10, mlp_dim 52, num_heads 4, num_kv_heads 1, width 36)",
        "  actions     action_dim 8",
        f"  LoRA        language: rank 5 at {ATTENTION}; rank 4 at gating_einsum, linear; alpha is not recorded",
        f"  LoRA        expert: rank 7 at {ATTENTION}; rank 6 at gating_einsum, linear; alpha is not recorded",
        "  digests     none recorded",
        "  complete    yes",
    ]


def test_arrays_are_listed_on_request(pi0_compat: Callable, tiny: Path) -> None:
    """With `--arrays` every array has a line with dtype and shape."""
    assert "    action_in_proj/kernel: float32[9, 36]\n" in pi0_compat("inspect", tiny / "openpi", "--arrays").out
    assert "action_in_proj" not in pi0_compat("inspect", tiny / "openpi").out


def test_recorded_alpha_and_digests_are_shown(pi0_compat: Callable, tmp_path: Path) -> None:
    """The text has what `save_params` records: rank and alpha of each site, and the number of digests."""
    config = Pi0Config.from_json(LORA)
    save_params(config.init_params(0), tmp_path / "params", config=config)
    result = pi0_compat("inspect", tmp_path / "params")
    assert "rank 8 at attn_vec_einsum, kv_einsum, q_einsum; rank 15 at gating_einsum, linear" in result.out
    assert "alpha 10 of attention (rslora), 7.5 of feed-forward" in result.out
    assert "digests     of 70 of 70 parameters" in result.out
    assert pi0_compat("inspect", tmp_path / "params", "--json").document["lora"]["paligemma"]["attn"]["rank"] == 4


@pytest.mark.parametrize("name", old_checkpoints.CHECKPOINTS)
def test_old_orbax_is_recognized(pi0_compat: Callable, name: str) -> None:
    """The generation of orbax that wrote a checkpoint shows in its files; dtypes are listed with their bytes."""
    result = pi0_compat("inspect", old_checkpoints.FOLDER / name)
    kind = "OCDBT" if name.endswith("ocdbt") else "a folder for each array"
    assert f"written by  orbax, as {name[:3]} does: {kind}, zarr 2" in result.out
    assert "bfloat16 240 B, float32 112 B, float16 12 B" in result.out
    # A few arrays of a pi0, and all of their files.
    assert "family      pi0 or pi05\n" in result.out
    assert (result.status, "pieces" in result.out) == (NO, False)


def test_a_run_is_inspected_at_its_latest_step(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """In a run's or a step's folder the parameters are inspected, with steps, train state, EMA and norm stats."""
    run = tmp_path / "run"
    for step in ("9", "10"):
        shutil.copytree(tiny / "openpi", run / step / "params")
    (run / "10" / "assets" / "droid").mkdir(parents=True)
    (run / "10" / "assets" / "droid" / "norm_stats.json").write_text("{}")
    state = {"step": jnp.asarray(10), "opt_state": {"0": jnp.ones(3)}, "params": {"a": jnp.ones(3)}}
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(run / "10" / "train_state", state)
    for path in (run, run / "10", run / "10" / "params"):
        result = pi0_compat("inspect", path)
        assert (
            "step 10 (saved steps: 9, 10), with optimizer state; the parameters are a moving average (EMA)"
            in result.out
        )
        assert "norm stats  assets/droid/norm_stats.json: cannot be read: expected {" in result.out
    assert "step 9 (saved steps: 9, 10), no optimizer state" in pi0_compat("inspect", run / "9").out
    assert pi0_compat("inspect", run / "10" / "train_state", "--json").document["layout"] == "train_state"


def test_without_ema_the_train_state_has_no_parameters(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """Where the train state has no parameters, those of the step are as trained."""
    shutil.copytree(tiny / "openpi", tmp_path / "3" / "params")
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "3" / "train_state", {"step": jnp.asarray(3), "opt_state": {"0": jnp.ones(3)}})
    assert "step 3, with optimizer state; the parameters as trained, no EMA" in pi0_compat("inspect", tmp_path).out


def test_peft_shows_rank_and_alpha(pi0_compat: Callable, tmp_path: Path) -> None:
    """PEFT's folder has adapters alone, with rank and alpha from its config."""
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    safetensors_file.write({name: np.ones((4, 8), np.float32)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8, "peft_type": "LORA"}')
    result = pi0_compat("inspect", tmp_path)
    assert "family      adapters alone" in result.out
    assert "LoRA        r 4, lora_alpha 8\n" in result.out


@pytest.mark.parametrize(
    ("mark", "family"),
    [("post_feedforward_layernorm", "PaliGemma 2"), ("self_attn.q_norm", "Gemma 3")],
)
def test_later_versions_are_recognized(
    pi0_compat: Callable, tiny: Path, tmp_path: Path, mark: str, family: str
) -> None:
    """PaliGemma 2 and Gemma 3 are recognized by names that only they have."""
    tensors = hugging_face.tensors(openpi.read_params(tiny / "openpi"))
    tensors[f"model.language_model.layers.0.{mark}.weight"] = np.ones(4, np.float32)
    hugging_face.write_tensors({name: x for name, x in tensors.items() if "/" not in name}, tmp_path / "model")
    assert pi0_compat("inspect", tmp_path / "model", "--json").document["family"] == family


def test_a_missing_file_is_named(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """A checkpoint without one of its data files is described and called incomplete, with status 1."""
    shutil.copytree(tiny / "openpi", tmp_path / "params")
    damaged_files.without_the_largest_file(tmp_path / "params")
    result = pi0_compat("inspect", tmp_path / "params")
    assert result.status == NO
    assert "complete    no: " in result.out
    assert "is missing\n" in result.out


def test_a_truncated_file_is_named(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """A truncated data file is named with its expected length."""
    shutil.copytree(tiny / "openpi", tmp_path / "params")
    damaged_files.with_the_largest_file_cut(tmp_path / "params")
    result = pi0_compat("inspect", tmp_path / "params", "--json")
    assert result.status == NO
    assert any("bytes, and should have" in line for line in result.document["missing"])


def test_a_missing_chunk_of_a_folder_is_named(pi0_compat: Callable, tmp_path: Path) -> None:
    """Where each array is a folder, missing chunk files are counted."""
    shutil.copytree(old_checkpoints.FOLDER / "0.5.20_one_folder_an_array", tmp_path / "params")
    (tmp_path / "params" / "params.action_in_proj.kernel.value" / "0.0").unlink()
    result = pi0_compat("inspect", tmp_path / "params")
    assert result.status == NO
    assert "  - params.action_in_proj.kernel.value: 1 of 1 pieces are missing" in result.out


def test_a_leftover_of_a_copy_is_listed(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """Leftovers of an interrupted copy are listed as harmless."""
    shutil.copytree(tiny / "openpi", tmp_path / "params")
    (tmp_path / "params" / "d" / "abc_.gstmp").write_bytes(b"")
    result = pi0_compat("inspect", tmp_path / "params")
    assert result.status == YES
    assert "leftovers   of an interrupted save or copy, harmless: d/abc_.gstmp\n  complete    yes\n" in result.out


def test_an_unreadable_store_gives_one_message(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """A damaged table of arrays is refused before orbax reads on, without a traceback on stderr."""
    shutil.copytree(tiny / "openpi", tmp_path / "params")
    for file in (tmp_path / "params" / "d").iterdir():
        file.write_bytes(bytes(file.stat().st_size))
    result = pi0_compat("inspect", tmp_path / "params")
    assert result.status == REFUSED
    assert "the table of its arrays cannot be read" in result.err
    assert len(result.err.splitlines()) == 1


def test_arrays_of_another_save_are_refused(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """Metadata of other arrays than the stored ones give one message, and so does a store without a table."""
    shutil.copytree(tiny / "openpi", tmp_path / "params")
    shutil.copy(tiny / "lora" / "_METADATA", tmp_path / "params" / "_METADATA")
    result = pi0_compat("inspect", tmp_path / "params")
    assert result.status == REFUSED
    assert "damaged: 20 of 70 arrays in _METADATA are not stored here, for example params.PaliGemma" in result.err
    (tmp_path / "params" / "manifest.ocdbt").unlink()
    assert "damaged: 70 of 70 arrays in _METADATA are not stored" in pi0_compat("inspect", tmp_path / "params").err


def test_zarr_3_is_supported(pi0_compat: Callable, tmp_path: Path) -> None:
    """The pieces of an array in zarr 3 are counted too."""
    handler = ocp.PyTreeCheckpointHandler(use_zarr3=True, use_ocdbt=False)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "params", {"params": {"action_in_proj": {"kernel": jnp.ones((2, 3))}}})
    result = pi0_compat("inspect", tmp_path / "params")
    assert ("pieces" in result.out, "a folder for each array, zarr 3\n" in result.out) == (False, True)
    (tmp_path / "params" / "params.action_in_proj.kernel" / "c" / "0" / "0").unlink()
    assert "kernel: 1 of 1 pieces are missing" in pi0_compat("inspect", tmp_path / "params").out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"\x00" * 4, "is no safetensors file or a truncated one"),
        ("weights.npz", b"PK", "is no npz, or a truncated one"),
        ("notes.txt", b"hello", "is a file; expected the `params` folder of a checkpoint"),
    ],
)
def test_other_files_are_refused(pi0_compat: Callable, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """A file in none of the formats is refused with the expected ones."""
    (tmp_path / name).write_bytes(content)
    result = pi0_compat("inspect", tmp_path / name)
    assert (result.status, message in result.err) == (REFUSED, True)


def test_other_trees_of_orbax_are_unknown(pi0_compat: Callable, tmp_path: Path) -> None:
    """Another orbax checkpoint is unknown, with what it has and what it is nearest to."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "other", {"encoder": jnp.ones(3)})
    result = pi0_compat("inspect", tmp_path / "other")
    assert result.status == NO
    assert (
        "why not     the names of its arrays, for example encoder, are those of no model that pi0-compat knows; it has "
        "none of the 32 arrays of the nearest, pi0-FAST or PaliGemma in openpi's layout, and not, for example, "
    ) in result.out


def test_an_empty_folder_is_refused(pi0_compat: Callable, tmp_path: Path) -> None:
    """A folder without a checkpoint is refused with a list of its content."""
    assert "it is empty" in pi0_compat("inspect", tmp_path).err


def test_another_model_is_unknown(pi0_compat: Callable, tmp_path: Path) -> None:
    """The text of a file that is no part of a pi0: its name, what it is nearest to and why it is not that."""
    names = ("model.vlm_with_expert.lm_expert.layers.0.mlp.up_proj.weight", "model.action_in_proj.weight")
    safetensors_file.write(dict.fromkeys(names, np.ones((4, 4), np.float32)), tmp_path / "model.safetensors")
    why_not = (
        f"this is SmolVLA, of lerobot, by {names[0]}; it has 1 of the 54 arrays of the nearest, pi0 in openpi's "
        "PyTorch layout, and not, for example, action_in_proj.bias"
    )
    result = pi0_compat("inspect", tmp_path)
    assert result.status == NO
    assert result.out.splitlines()[1:] == [
        "  family      unknown: SmolVLA, of lerobot",
        "  layout      of no model that pi0-compat reads",
        "  holds       32 numbers in 2 arrays: float32 128 B",
        f"  why not     {why_not}",
        "  complete    no: not a model that pi0 is made of",
    ]
    document = pi0_compat("inspect", tmp_path, "--json").document
    assert (document["layout"], document["family"], document["other"]) == ("unknown", "unknown", "SmolVLA, of lerobot")
    assert document["why_not"] == why_not
    assert pi0_compat("check", tmp_path).out.endswith(f"named configs fits: {why_not}\n")
    for command in (("convert", tmp_path, "--to", "openpi"), ("fold", tmp_path)):
        assert pi0_compat(*command, "-o", tmp_path / "out").status == REFUSED
    assert not (tmp_path / "out").exists()


def test_a_train_state_shows_its_arrays(pi0_compat: Callable, tmp_path: Path) -> None:
    """Of an optimizer's state, which is a list, each array is counted and listed."""
    state = {"step": jnp.asarray(3), "opt_state": [{"mu": {"w": jnp.ones((2, 3))}}, {"count": jnp.asarray(3)}]}
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "3" / "train_state", state)
    document = pi0_compat("inspect", tmp_path / "3" / "train_state", "--json").document
    assert document["arrays"].keys() == {"step", "opt_state/0/mu/w", "opt_state/1/count"}


def test_a_folder_with_a_number_above_is_no_step(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """The parent of a checkpoint may be called 2026."""
    shutil.copytree(tiny / "openpi", tmp_path / "2026" / "pi0_base")
    assert pi0_compat("inspect", tmp_path / "2026" / "pi0_base", "--json").document["training"] is None


def test_strays_and_problems_are_listed(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """A value head has no place; a parameter that is missing, and tables that should be one, are problems."""
    tensors = safetensors_file.read(tiny / "pytorch" / "model.safetensors")
    table = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
    head = "paligemma_with_expert.paligemma.lm_head.weight"

    def inspect(changed: dict) -> str:
        openpi_pytorch.write(changed, tmp_path / "changed")
        result = pi0_compat("inspect", tmp_path / "changed")
        shutil.rmtree(tmp_path / "changed")
        assert result.status == (NO if "complete    no" in result.out else YES)
        return str(result.out)

    assert inspect(tensors | {"value_head.bias": np.ones(3, np.float32)}).endswith(
        "  no place    for 1 array, for example value_head.bias\n  complete    yes\n"
    )
    without = {name: tensor for name, tensor in tensors.items() if name != "action_in_proj.weight"}
    assert inspect(without).endswith(
        "  complete    no: 1 problem\n  - action_in_proj.weight: expected, found nothing\n"
    )
    assert "complete    yes" in inspect(tensors | {table: tensors[head]})
    assert inspect(tensors | {table: tensors[head] * 2}).endswith(
        f"  complete    no: 1 problem\n  - {table} and {head} are one table in the model and differ in the file; pi0 "
        "looks tokens up in the first and has no use for the second: only one can be meant, remove the other\n"
    )


def test_what_is_no_weight_is_no_model(pi0_compat: Callable, tmp_path: Path, sizes: Path) -> None:
    """Scales of quantized weights beside codes that somebody cast, and a quantization in config.json, are said by every
    command in the same words."""
    tensors = openpi_pytorch.saved(content.params(SPEC, 0, "float32"))
    name = "paligemma_with_expert.gemma_expert.model.layers.0.mlp.down_proj.weight_scale"
    openpi_pytorch.write(tensors | {name: np.ones((), np.float32)}, tmp_path / "scales")
    openpi_pytorch.write(tensors, tmp_path / "config")
    (tmp_path / "config" / "config.json").write_text('{"quantization_config": {"quant_method": "fp8"}}')
    for folder, words in (("scales", "1 tensors are scales of quantized"), ("config", "quantization_config (fp8)")):
        result = pi0_compat("inspect", tmp_path / folder)
        assert (result.status, "complete    no: 1 problem\n" in result.out, words in result.out) == (NO, True, True)
        result = pi0_compat("check", tmp_path / folder, "--config-file", sizes / "base.json")
        assert (result.status, words in result.out, "fix" in result.out) == (NO, True, False)
        assert words in pi0_compat("convert", tmp_path / folder, "--to", "openpi", "-o", tmp_path / "out").err


def test_adapters_of_another_kind_are_not_complete(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """Adapters whose base is another one are said to be so before anybody attaches them."""
    config = ("--config-file", tmp_path / "model.json")
    (tmp_path / "model.json").write_text(json.dumps(LORA))
    assert pi0_compat("convert", tiny / "lora", "--to", "peft", "-o", tmp_path / "peft", *config).status == YES
    assert pi0_compat("inspect", tmp_path / "peft").status == YES
    file = tmp_path / "peft" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"init_lora_weights": "pissa"}))
    result = pi0_compat("inspect", tmp_path / "peft")
    assert result.status == NO
    assert "  - adapter_config.json: init_lora_weights is 'pissa': it belongs to a base from which" in result.out
