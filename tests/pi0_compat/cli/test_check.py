"""`pi0-compat check`: the loaders' answers from metadata, the reasons in groups, and suggestions."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fixtures import content, golden_cases, specs
from fixtures.damage.operations import files as damaged_files
from fixtures.damage.operations import params as damaged_params
from fixtures.layouts import LAYOUTS
from fixtures.writers import openpi, openpi_pytorch
from pi0_compat import CheckpointWeightLoader, LoadError, Pi0Config, save_params
from pi0_compat.cli import NO, REFUSED, YES
from pi0_compat.loading.report import Status
from pi0_compat.model.named import named_models
from tests.pi0_compat.cli.conftest import LORA, SPEC

GOLDEN = golden_cases.GOLDEN


def test_a_base_for_a_lora_config(pi0_compat: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base checkpoint trains with a LoRA config but does not serve it, and both solutions are suggested."""
    monkeypatch.chdir(GOLDEN)
    result = pi0_compat("check", "pi0_base/params", "--config", "pi0_libero_low_mem_finetune_tiny")
    assert result.status == NO
    fitting = "pi0_base_tiny, pi0_libero_tiny, debug_restore_tiny and 10 more"
    assert result.out.splitlines() == [
        "pi0_base/params: openpi",
        "config pi0_libero_low_mem_finetune_tiny",
        "  training    yes: 50 parameters are loaded, 20 start fresh",
        "  inference   no: a base checkpoint for a LoRA config: 20 adapter matrices are missing",
        "  missing     10 of the adapters of the language model, for example",
        "              PaliGemma/llm/layers/attn/attn_vec_einsum/lora_a: expected float32[3, 4, 10, 4]",
        "  missing     10 of the adapters of the action expert, for example",
        "              PaliGemma/llm/layers/attn/attn_vec_einsum_1/lora_a: expected float32[3, 4, 10, 6]",
        "  fix         for training, load it with CheckpointWeightLoader: fresh adapters are added, and reported",
        f"  fix         for inference, these configs fit: {fitting}",
    ]


def test_for_selects_one_purpose(pi0_compat: Callable) -> None:
    """With `--for training` the answer is about training alone."""
    arguments = ("check", GOLDEN / "pi0_base" / "params", "--config", "pi0_libero_low_mem_finetune_tiny", "--for")
    assert pi0_compat(*arguments, "training").status == YES
    assert pi0_compat(*arguments, "inference").status == NO


def test_a_lora_checkpoint_for_a_base_config(pi0_compat: Callable) -> None:
    """Adapters that would be lost are counted, and their config or a fold is suggested."""
    result = pi0_compat("check", GOLDEN / "pi0_lora" / "params", "--config", "pi0_base_tiny")
    assert result.status == NO
    assert "inference   no: as for training" in result.out
    assert "unexpected  10 of the adapters of the action expert" in result.out
    assert "keep its fine-tuning: use the LoRA config it was trained with, or fold it: pi0-compat fold" in result.out
    assert "for training, these configs fit: pi0_libero_low_mem_finetune_tiny" in result.out


def test_another_family(pi0_compat: Callable) -> None:
    """A checkpoint of the other family is named, and the configs of its own are suggested."""
    result = pi0_compat("check", GOLDEN / "pi05_base" / "params", "--config", "pi0_base_tiny")
    assert "these are parameters of pi05, the config is pi0" in result.out
    assert "missing     6 of the projections" in result.out
    assert "for inference, these configs fit: pi05_base_tiny, pi05_libero_tiny" in result.out


def test_different_sizes_are_listed_by_part(pi0_compat: Callable, tiny: Path) -> None:
    """Each size that differs is listed once, however many arrays it shapes, and so are ranks."""
    result = pi0_compat("check", tiny / "lora", "--config", "pi0_libero_low_mem_finetune_tiny")
    assert "  sizes       model: action_dim 9 and not 8\n" in result.out
    assert "  sizes       image encoder: width 40 and not 24, num_heads 5 and not 2\n" in result.out
    assert "  sizes       LoRA of the language model: rank in feed-forward 13 and not 4\n" in result.out
    assert (
        "  sizes       LoRA of the action expert: rank in attention 8 and not 6, rank in feed-forward 15 and not 6\n"
        in (result.out)
    )
    assert (
        "no named config has its sizes; write them to a file for --config-file: inspect --write-config FILE"
        in result.out
    )


@pytest.mark.parametrize(
    ("name", "status", "training", "inference"),
    [
        ("openpi", YES, "yes: 50 parameters are loaded", "yes: 50 parameters are loaded"),
        ("pytorch", YES, "yes: 50 parameters are loaded", "yes: 50 parameters are loaded"),
        ("paligemma.npz", NO, "yes: 32 parameters are loaded, 18 start fresh", "no: "),
        ("hugging_face", NO, "yes: 32 parameters are loaded, 18 start fresh", "no: "),
        ("gemma", NO, "yes: 9 parameters are loaded, 41 start fresh", "no: "),
    ],
)
def test_every_layout_in_a_users_own_sizes(
    pi0_compat: Callable, tiny: Path, sizes: Path, name: str, status: int, training: str, inference: str
) -> None:
    """With `--config-file`, each layout is judged as its loader would; a release can be a starting point."""
    result = pi0_compat("check", tiny / name, "--config-file", sizes / "base.json")
    assert f"  training    {training}\n" in result.out
    assert f"  inference   {inference}" in result.out
    assert result.status == status
    assert ("for inference, fine-tune first: a release has no action expert" in result.out) == (status == NO)


@pytest.mark.parametrize("name", ["openpi", "lora"])
@pytest.mark.parametrize("model", ["base", "lora"])
def test_the_verdict_is_the_loaders(pi0_compat: Callable, tiny: Path, sizes: Path, name: str, model: str) -> None:
    """The answers for training and inference are those of the loader, including the number of fresh parameters."""
    result = pi0_compat("check", tiny / name, "--config-file", sizes / f"{model}.json", "--json").document
    (verdicts,) = result["configs"].values()
    loader, config = CheckpointWeightLoader(tiny / name), Pi0Config.from_json({"base": SPEC, "lora": LORA}[model])
    for purpose, load in (("training", loader.load), ("inference", loader.load_for_inference)):
        if not verdicts[purpose]["loads"]:
            with pytest.raises(LoadError, match=re.escape(verdicts[purpose]["reason"])):
                load(config)
            continue
        report = load(config)[1]
        assert verdicts[purpose]["fresh"] == report.count(Status.INITIALIZED)
        assert verdicts[purpose]["loaded"] == report.count(Status.LOADED)


def test_without_a_config_all_that_fit_are_named(pi0_compat: Callable) -> None:
    """All named configs are tried; those that fit are listed with the answer for each purpose."""
    result = pi0_compat("check", GOLDEN / "pi0_base" / "params")
    assert result.status == YES
    lines = result.out.splitlines()[1:]
    assert lines[:3] == [
        "  pi0_base_tiny                       training: yes, inference: yes",
        "  pi0_libero_low_mem_finetune_tiny    training: yes (20 start fresh), inference: no",
        "  pi0_libero_tiny                     training: yes, inference: yes",
    ]
    models = named_models().items()
    assert sorted(line.split()[0] for line in lines) == [
        name for name, model in models if model.family == "pi0" and name.endswith("_tiny")
    ]


def test_if_no_config_fits_the_closest_is_named(pi0_compat: Callable, tiny: Path) -> None:
    """A checkpoint of other sizes fits no named config; the answer is no, and a file of sizes is suggested."""
    result = pi0_compat("check", tiny / "openpi")
    assert result.status == NO
    assert f"none of the {len(named_models())} named configs fits\n  closest: pi0_base_tiny, " in result.out
    assert (
        "for a model of other sizes, write them to a file for --config-file: inspect --write-config FILE" in result.out
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"action_dim": 7}, "3 parameters differ: model: action_dim 7 and not 8"),
        ({"vocab_size": 601}, "1 parameter differs: model: vocab_size 601 and not 509"),
        ({"image_size": 56}, "1 parameter differs: model: image_size 56 and not 28"),
    ],
)
@pytest.mark.parametrize("layout", ["openpi", "openpi_pytorch"])
def test_the_closest_config_is_that_of_the_fewest_parameters(
    pi0_compat: Callable, tmp_path: Path, layout: str, change: dict[str, int], words: str
) -> None:
    """Of a pi05 with one other size, the closest config is a pi05, and what differs is said; not a pi0 of all sizes."""
    spec: Any = {**golden_cases.read_case(GOLDEN / "pi05_base").spec, **change}
    LAYOUTS[layout].write_tensors(
        LAYOUTS[layout].tensors(LAYOUTS[layout].contents(spec, 0, "float32")), tmp_path / "it", spec
    )
    result = pi0_compat("check", tmp_path / "it")
    assert result.status == NO
    assert f"closest: pi05_base_tiny, {words}\n" in result.out
    assert pi0_compat("check", tmp_path / "it", "--json").document["configs"]["pi05_base_tiny"]["apart"] < 4


def test_what_is_not_used_is_counted(pi0_compat: Callable, tmp_path: Path, sizes: Path) -> None:
    """A value head is not used; the expert's output layer, which openpi's own file has too, is not worth a word."""
    tensors = openpi_pytorch.saved(content.params(SPEC, 0, "float32"))
    openpi_pytorch.write(tensors | {"value_head.weight": np.ones((3, 4), np.float32)}, tmp_path / "rl")
    result = pi0_compat("check", tmp_path / "rl", "--config-file", sizes / "base.json")
    assert "  training    yes: 50 parameters are loaded, 1 is not used\n" in result.out
    assert "  unexpected  1 of the others, for example\n              value_head.weight: found" in result.out


def test_recorded_alpha_counts(pi0_compat: Callable, tmp_path: Path, sizes: Path) -> None:
    """A recorded alpha that differs from the config's is refused as the loader refuses it."""
    lora: specs.GemmaLora = {"attn": {"rank": 4, "alpha": 4.0, "rslora": False}, "ffn": None}
    config = Pi0Config.from_json(specs.with_lora(SPEC, paligemma=lora, action_expert=None))
    save_params(config.init_params(0), tmp_path / "params", config=config)
    wanted = config.to_json()
    wanted["paligemma"]["lora"]["attn"]["alpha"] = 8.0
    (tmp_path / "alpha.json").write_text(json.dumps(wanted))
    result = pi0_compat("check", tmp_path / "params", "--config-file", tmp_path / "alpha.json")
    assert "no: LoRA on paligemma was trained with" in result.out


def test_half_an_adapter(pi0_compat: Callable, tmp_path: Path, sizes: Path) -> None:
    """Half an adapter is refused for training too."""
    params = damaged_params.with_half_an_adapter(openpi.build(LORA, tmp_path / "whole"))
    openpi.write(params, tmp_path / "params")
    result = pi0_compat("check", tmp_path / "params", "--config-file", sizes / "lora.json")
    assert "training    no: half an adapter is missing" in result.out


def test_an_incomplete_checkpoint_does_not_load(pi0_compat: Callable, tiny: Path, tmp_path: Path, sizes: Path) -> None:
    """A missing file makes the answer no, although the metadata fit."""
    shutil.copytree(tiny / "openpi", tmp_path / "params")
    damaged_files.without_the_largest_file(tmp_path / "params")
    result = pi0_compat("check", tmp_path / "params", "--config-file", sizes / "base.json")
    assert result.status == NO
    assert "training    no: the checkpoint is not whole: params." in result.out


def test_pytorch_of_other_sizes(pi0_compat: Callable, tiny: Path) -> None:
    """A few of PyTorch's tensors are listed by their own names, with the expected shapes."""
    result = pi0_compat("check", tiny / "pytorch", "--config", "pi0_base_tiny")
    assert "training    no: the checkpoint does not fit the pi0 model" in result.out
    assert "sizes       image encoder: width 40 and not 24" in result.out
    assert result.out.count("    ~ paligemma_with_expert.") == 4


def test_train_states_and_adapters_hold_no_model(pi0_compat: Callable, tmp_path: Path) -> None:
    """A train state is not a checkpoint to load; the message points to the params folder."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "train_state", {"step": np.asarray(3), "opt_state": {"0": np.ones(3)}})
    result = pi0_compat("check", tmp_path / "train_state", "--config", "pi0_base_tiny")
    assert result.status == NO
    assert (
        "the state of a training, which holds no parameters of a model; pass the params folder beside it" in result.out
    )


def test_values_are_read_on_request(pi0_compat: Callable, tmp_path: Path, sizes: Path) -> None:
    """With `--values`, NaN is an alarm and the answer is no; without it, the same checkpoint loads."""
    params = openpi.build(SPEC, tmp_path / "whole")
    params["action_in_proj/kernel"][0, 0] = np.nan
    params["action_in_proj/bias"][:] = 0
    openpi.write(params, tmp_path / "params")
    arguments = ("check", tmp_path / "params", "--config-file", sizes / "base.json")
    assert pi0_compat(*arguments).status == YES
    result = pi0_compat(*arguments, "--values")
    assert result.status == NO
    assert result.out.splitlines()[-4:] == [
        "values: 1 finding that a trained model does not have",
        "  ! action_in_proj/kernel: values that are not finite (1 NaN of 324)",
        "  unusual but expected: 1 array",
        "    action_in_proj/bias: all zero (all 36 values are 0, as freshly initialized)",
    ]


def test_good_values(pi0_compat: Callable) -> None:
    """Values of a trained model raise no alarm; the document has an empty list."""
    result = pi0_compat("check", GOLDEN / "pi0_lora" / "params", "--values", "--json")
    assert (result.status, result.document["values"]) == (YES, [])
    assert "values: nothing is wrong" in pi0_compat("check", GOLDEN / "pi0_lora" / "params", "--values").out


def test_the_document(pi0_compat: Callable) -> None:
    """The JSON has the members that the help describes."""
    result = pi0_compat(
        "check", GOLDEN / "pi0_base" / "params", "--config", "pi0_libero_low_mem_finetune_tiny", "--json"
    )
    document = result.document
    assert document.keys() == {"command", "path", "layout", "why_not", "problems", "configs", "fixes", "norm_stats"}
    fit = document["configs"]["pi0_libero_low_mem_finetune_tiny"]
    assert fit.keys() == {"training", "inference", "differences", "sizes", "details", "apart"}
    assert fit["apart"] == 20
    assert fit["training"] == {"loads": True, "reason": "", "loaded": 50, "fresh": 20, "dropped": 0}
    assert [(group["kind"], len(group["paths"])) for group in fit["differences"]] == [("missing", 10), ("missing", 10)]


def test_a_url_is_checked_without_a_download(pi0_compat: Callable, tiny: Path, sizes: Path, tmp_path: Path) -> None:
    """A remote checkpoint is judged by its metadata."""
    fsspec.filesystem("memory").put(str(tiny / "openpi"), "/check/params", recursive=True)
    result = pi0_compat("check", "memory://check/params", "--config-file", sizes / "base.json")
    assert (result.status, result.out.splitlines()[0]) == (YES, "memory://check/params: openpi")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a config (Expecting property name"),
        ('{"family": "pi0"}', "Pi0Spec: missing keys ['action_dim', 'action_horizon', 'image_size', "),
        ("3", "Pi0Spec: expected an object with fields by name, found 3"),
        (
            "[]",
            "expected the sizes of a model as JSON, as `pi0-compat inspect CHECKPOINT --write-config FILE` writes them",
        ),
        ('{"colour": 1}', "Pi0Spec: unknown keys ['colour']"),
    ],
)
def test_a_wrong_config_file_is_refused(
    pi0_compat: Callable, tiny: Path, tmp_path: Path, content: str, message: str
) -> None:
    """A file without a config is refused with its name and the reason."""
    (tmp_path / "sizes.json").write_text(content)
    result = pi0_compat("check", tiny / "openpi", "--config-file", tmp_path / "sizes.json")
    assert result.status == REFUSED
    assert f"{tmp_path / 'sizes.json'}: is not a config" in result.err
    assert message in result.err


def test_an_unknown_config_is_refused(pi0_compat: Callable, tiny: Path) -> None:
    """The closest names are suggested."""
    result = pi0_compat("check", tiny / "openpi", "--config", "pi0_libro")
    assert result.status == REFUSED
    assert result.err.startswith("pi0-compat check: no config 'pi0_libro'; the closest names are pi0_libero")


def test_pickles_are_not_read(pi0_compat: Callable, tmp_path: Path) -> None:
    """A folder of pickles is refused, and nothing in it is opened."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"not a pickle")
    result = pi0_compat("check", tmp_path)
    assert (result.status, "holds no checkpoint" in result.err) == (REFUSED, True)


def test_what_is_not_whole_fits_no_config(pi0_compat: Callable, tiny: Path, tmp_path: Path) -> None:
    """With a parameter missing no config is called the closest, and none is asked for: the files are what lacks."""
    params = openpi.read_params(tiny / "openpi")
    del params["action_in_proj/bias"]
    openpi.write(params, tmp_path / "params")
    result = pi0_compat("check", tmp_path / "params")
    assert result.status == NO
    assert result.out.splitlines()[1:] == [
        "  none of the 76 named configs fits: the checkpoint is not whole: 1 problem, for example",
        "  - action_in_proj/bias: expected, found nothing",
    ]
    named = pi0_compat("check", tmp_path / "params", "--config", "pi0_base_tiny")
    assert named.out.endswith(
        "  fix         the checkpoint is not whole (pi0), so no config fits: get all of its files again\n"
    )
