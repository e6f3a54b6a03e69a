"""`pi0-compat fold`, `extract` and `attach`: their files, their messages, and what they refuse."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fixtures.params import Params
from fixtures.specs import tiny
from fixtures.writers import openpi, openpi_pytorch
from fixtures.writers.openpi import read_params
from pi0_compat import save_params
from pi0_compat.cli import main as cli
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.lora import fold as lora_fold
from pi0_compat.model.config import Pi0Config
from pi0_compat.params import as_flat
from suite.writing.asserts import assert_close, assert_same_bits
from suite.writing.cases import digests, is_adapter
from tests.pi0_compat.cli.checkpoints import BASE_SPEC, LORA_SPEC, STATS, config_file, document, refusal, step

MODEL = Pi0Config.from_json({**LORA_SPEC})
# Sums of at most rank x heads products of order one, in another order; float32 eps is 1.2e-7.
FOLD_ATOL = 1e-5


def test_fold_writes_an_equivalent_base(tmp_path: Path, lora: Params, config: str, capsys) -> None:
    """Adapted weights have their delta added, the others keep their bits, and the norm stats are copied."""
    shown = document(capsys, "fold", tmp_path / "lora", "-o", tmp_path / "out", "--config-file", config)
    folded, expected = read_params(tmp_path / "out" / "params"), lora_fold.fold(lora, MODEL).params
    assert folded.keys() == expected.keys()
    for path, array in expected.items():
        assert_close(folded[path], array, atol=FOLD_ATOL, name=path)
    assert_same_bits(
        {p: x for p, x in folded.items() if f"{p.removesuffix('/w')}" in p and expected[p] is lora[p]},
        {p: x for p, x in expected.items() if x is lora[p]},
    )
    assert digests(tmp_path / "out" / "assets") == digests(tmp_path / "lora" / "assets")
    assert (shown["parameters"], shown["assets"], shown["verified"]) == (len(expected), True, True)
    assert shown["lost"].keys() == {path for path in expected if expected[path] is not lora[path]}
    assert read_metadata(tmp_path / "out" / "params").lora == {}


def test_fold_uses_the_recorded_config(tmp_path: Path, lora: Params, capsys) -> None:
    """A checkpoint that records rank and alpha needs no config."""
    save_params(lora, tmp_path / "recorded", config=MODEL)
    document(capsys, "fold", tmp_path / "recorded", "-o", tmp_path / "out")
    expected = lora_fold.fold(lora, MODEL).params
    for path, array in read_params(tmp_path / "out" / "params").items():
        assert_close(array, expected[path], atol=FOLD_ATOL, name=path)


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_fold_rounds_once(tmp_path: Path, config: str, capsys, stored: str) -> None:
    """In bfloat16 a weight is the float32 sum, rounded once; all other parameters are cast."""
    params = step(LORA_SPEC, tmp_path / "lora", dtype=stored)
    options = ("--config-file", config, "--dtype", "bfloat16")
    document(capsys, "fold", tmp_path / "lora", "-o", tmp_path / "out", *options)
    wide = {path: x.astype(np.float32) for path, x in params.items()}
    expected = lora_fold.fold(wide, MODEL).params
    folded = read_params(tmp_path / "out" / "params")
    assert {x.dtype for x in folded.values()} == {np.dtype(ml_dtypes.bfloat16)}
    for path, array in expected.items():
        # The tolerance is half a unit in the last place of eight bits, plus the order of a sum.
        assert_close(folded[path], array, rtol=2**-8, atol=FOLD_ATOL, name=path)


def test_fold_reports_the_rounding_loss(tmp_path: Path, lora: Params, config: str, capsys) -> None:
    """Every adapter has a line; a large loss gives a warning with a suggestion."""
    small = {p: 1e-3 * x if p.endswith("lora_b") else x for p, x in lora.items()}
    save_params(small, tmp_path / "small")
    arguments = ["fold", tmp_path / "small", "--config-file", config]
    assert cli.main([*map(str, arguments), "-o", str(tmp_path / "wide")]) == 0
    shown = capsys.readouterr()
    assert "folded 10 adapters; rounding took this share of each:\n" in shown.out
    assert "\n  PaliGemma/llm/layers/mlp_1/linear              under 0.1%\n" in shown.out
    assert f"\nwrote {tmp_path}/wide/params: 50 parameters, " in shown.out
    assert "\n  read back: every parameter is as intended\n  norm stats: none\n" in shown.out
    assert "rounding took" not in shown.err
    assert cli.main([*map(str, arguments), "-o", str(tmp_path / "narrow"), "--dtype", "bfloat16"]) == 0
    phrase = r"rounding took "
    err = capsys.readouterr().err
    assert phrase in err
    assert "% of the adapter of PaliGemma/llm/layers/" in err
    assert "; to keep it: --dtype float32" in err


def test_fold_needs_alpha(tmp_path: Path, lora: Params, capsys) -> None:
    """openpi records no alpha: without a config, or with one without LoRA, there is none, and nothing is written."""
    message = refusal(capsys, "fold", tmp_path / "lora", "-o", tmp_path / "out")
    no_lora = ("--config", "pi0_libero_tiny")
    assert refusal(capsys, "fold", tmp_path / "lora", "-o", tmp_path / "out", *no_lora) == message
    assert message.startswith(f"{tmp_path}/lora/params: the alpha of PaliGemma/llm/layers/attn/attn_vec_einsum/lora_a")
    assert message.endswith(
        "is not known: the checkpoint does not record it, and no config with an adapter there was passed; pass the "
        "config that it was trained with (--config)"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lora"]


def test_fold_of_another_rank_is_refused(tmp_path: Path, lora: Params, capsys) -> None:
    """A config with another rank would give another alpha / rank."""
    other = tiny("pi0", lora="both", num_kv_heads=2)
    other["paligemma"]["lora"]["attn"]["rank"] += 1  # type: ignore[index]
    message = refusal(
        capsys, "fold", tmp_path / "lora", "-o", tmp_path / "out", "--config-file", _file(other, tmp_path)
    )
    assert "lora_a: rank 4, but the config says 5; alpha / rank would be wrong" in message


def test_fold_of_another_alpha_is_refused(tmp_path: Path, lora: Params, capsys) -> None:
    """The recorded alpha counts; a config with another one is refused with both."""
    save_params(lora, tmp_path / "recorded", config=MODEL)
    other = tiny("pi0", lora="both", num_kv_heads=2)
    other["paligemma"]["lora"]["attn"]["alpha"] += 1  # type: ignore[index]
    file = _file(other, tmp_path)
    message = refusal(capsys, "fold", tmp_path / "recorded", "-o", tmp_path / "out", "--config-file", file)
    assert "LoRA on paligemma was trained with {'attn': {'rank': 4" in message
    assert "use the recorded one" in message


def _file(spec, tmp_path: Path) -> str:
    (tmp_path / "other").mkdir()
    return config_file(spec, tmp_path / "other")


@pytest.mark.parametrize(
    ("command", "reason"), [("fold", "there is nothing to fold"), ("extract", "there is nothing to extract")]
)
def test_a_base_has_no_adapters(tmp_path: Path, capsys, command: str, reason: str) -> None:
    """A base checkpoint has nothing to fold or to extract."""
    step(BASE_SPEC, tmp_path / "base")
    message = refusal(capsys, command, tmp_path / "base", "-o", tmp_path / "out")
    assert message == f"{tmp_path}/base/params: none of its 50 parameters is an adapter; {reason}"


def test_another_layout_must_be_converted_first(tmp_path: Path, capsys) -> None:
    """PyTorch's layout has no adapters to fold."""
    openpi_pytorch.build(BASE_SPEC, tmp_path / "torch")
    message = refusal(capsys, "fold", tmp_path / "torch", "-o", tmp_path / "out")
    assert message == (
        f"{tmp_path}/torch: expected a checkpoint in openpi's layout, found openpi_pytorch; convert it first: "
        "pi0-compat convert CHECKPOINT --to openpi"
    )


@pytest.mark.parametrize("command", ["fold", "extract"])
def test_nothing_is_overwritten(tmp_path: Path, lora: Params, config: str, capsys, command: str) -> None:
    """An existing OUT is refused before anything is read, and stays."""
    (tmp_path / "out").write_text("mine")
    message = refusal(capsys, command, tmp_path / "nowhere", "-o", tmp_path / "out", "--config-file", config)
    assert message == f"{tmp_path}/out: already exists; choose another folder or remove it first"
    assert (tmp_path / "out").read_text() == "mine"


def test_extract_and_attach_give_the_model_back(tmp_path: Path, lora: Params, config: str, capsys) -> None:
    """Adapters and base, extracted and attached again, are the checkpoint bit for bit, including alpha."""
    document(capsys, "extract", tmp_path / "lora", "-o", tmp_path / "adapters", "--config-file", config)
    document(capsys, "extract", tmp_path / "lora", "-o", tmp_path / "base", "--base")
    shown = document(capsys, "attach", tmp_path / "adapters", "--to", tmp_path / "base", "-o", tmp_path / "again")
    assert_same_bits(read_params(tmp_path / "adapters" / "params"), {p: x for p, x in lora.items() if is_adapter(p)})
    assert_same_bits(read_params(tmp_path / "base" / "params"), {p: x for p, x in lora.items() if not is_adapter(p)})
    assert_same_bits(read_params(tmp_path / "again" / "params"), lora)
    assert read_metadata(tmp_path / "again" / "params").lora == MODEL.lora
    assert shown["base"] == str(tmp_path / "base")
    assert (tmp_path / "again" / "assets" / STATS).is_file()


def test_the_norm_stats_are_those_of_the_adapters(tmp_path: Path, lora: Params, capsys) -> None:
    """The adapters were trained with the stats of their own data."""
    document(capsys, "extract", tmp_path / "lora", "-o", tmp_path / "adapters")
    (tmp_path / "adapters" / "assets" / STATS).write_text("of the adapters")
    document(capsys, "extract", tmp_path / "lora", "-o", tmp_path / "base", "--base")
    document(capsys, "attach", tmp_path / "adapters", "--to", tmp_path / "base", "-o", tmp_path / "again")
    assert (tmp_path / "again" / "assets" / STATS).read_text() == "of the adapters"


@pytest.mark.parametrize("command", ["fold", "extract"])
def test_only_whole_models_are_folded(tmp_path: Path, lora: Params, config: str, capsys, command: str) -> None:
    """Half an adapter, and a parameter that no model has a place for, are refused by name with the way out."""
    out = ("-o", tmp_path / "out", "--config-file", config)
    openpi.write({p: x for p, x in lora.items() if p != f"{SITE}/lora_b"}, tmp_path / "half" / "params")
    assert refusal(capsys, command, tmp_path / "half", *out) == (
        f"{tmp_path}/half/params: the checkpoint is not whole (pi0); get all of its files again\n"
        f"  - {SITE}/lora_b: expected, found nothing"
    )
    openpi.write(lora | {"value_head": np.ones(2, np.float32)}, tmp_path / "head" / "params")
    assert refusal(capsys, command, tmp_path / "head", *out) == (
        f"{tmp_path}/head/params: there is no place for 1 of its parameters (pi0), for example value_head; leave them "
        "out first: pi0-compat convert --to openpi --drop"
    )


def test_adapters_remember_their_family(tmp_path: Path, lora: Params, capsys) -> None:
    """Adapters of pi0 and pi05 have the same names and shapes: extracted ones go onto a base of their family only."""
    document(capsys, "extract", tmp_path / "lora", "-o", tmp_path / "adapters")
    assert document(capsys, "inspect", tmp_path / "adapters")["family"] == "adapters alone, of pi0"
    pi05 = tiny("pi05", num_kv_heads=2)
    openpi.build(pi05, tmp_path / "pi05" / "params")
    message = refusal(capsys, "attach", tmp_path / "adapters", "--to", tmp_path / "pi05", "-o", tmp_path / "out")
    assert message == (
        f"{tmp_path}/adapters/params: the adapters were extracted from a pi0, and the base {tmp_path}/pi05/params is "
        "of pi05: choose one of the same family"
    )
    other = config_file(tiny("pi05", lora="both", num_kv_heads=2), tmp_path)
    message = refusal(
        capsys, "convert", tmp_path / "adapters", "-o", tmp_path / "out", "--to", "peft", "--config-file", other
    )
    assert "the adapters were extracted from a pi0, and the config is of pi05" in message
    assert not (tmp_path / "out").exists()


def test_the_base_is_not_extracted_for_another_family(tmp_path: Path, lora: Params, capsys) -> None:
    """With --base the config of another family is refused too."""
    other = config_file(tiny("pi05", lora="both", num_kv_heads=2), tmp_path)
    message = refusal(capsys, "extract", tmp_path / "lora", "-o", tmp_path / "out", "--base", "--config-file", other)
    assert message.endswith("these are parameters of pi0, the config is pi05: choose the config of that family")


def adapters_alone(params: Params) -> Params:
    return {path: array for path, array in params.items() if is_adapter(path)}


SITE = "PaliGemma/llm/layers/attn/q_einsum"


HALF = (
    f"the checkpoint is not whole (adapters alone, of pi0 or pi05); get all of its files again\n  - {SITE}/lora_b: "
    "expected, found nothing"
)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda p: p | {"x": np.ones(2, np.float32)},
            "1 parameters are no adapters, for example x; extract them first",
        ),
        (lambda p: {q: x for q, x in p.items() if q != f"{SITE}/lora_b"}, HALF),
        (lambda p: p | {f"{SITE}/lora_a": p[f"{SITE}/lora_a"][..., :-1, :]}, f"{SITE}/lora_a: expected shape"),
    ],
    ids=["not an adapter", "half an adapter", "another shape"],
)
def test_adapters_that_do_not_fit_the_base_are_not_attached(
    tmp_path: Path, lora: Params, capsys, change, text: str
) -> None:
    """Other parameters, half adapters and other shapes are refused by the adapters' checkpoint and the parameter."""
    save_params(change(adapters_alone(lora)), tmp_path / "adapters")
    openpi.build(BASE_SPEC, tmp_path / "base")
    message = refusal(capsys, "attach", tmp_path / "adapters", "--to", tmp_path / "base", "-o", tmp_path / "out")
    assert message.startswith(f"{tmp_path}/adapters: {text}")
    assert not (tmp_path / "out").exists()


def test_another_rank_than_recorded_is_not_attached(tmp_path: Path, lora: Params, capsys) -> None:
    """Adapters whose rank differs from the recorded one would have another scale."""
    document(capsys, "extract", "-o", tmp_path / "adapters", tmp_path / "lora")
    openpi.build(BASE_SPEC, tmp_path / "base")
    other = tiny("pi0", lora="both", num_kv_heads=2)
    other["action_expert"]["lora"]["ffn"]["rank"] += 1  # type: ignore[index]
    arguments = ("attach", tmp_path / "adapters", "--to", tmp_path / "base", "-o", tmp_path / "out")
    message = refusal(capsys, *arguments, "--config-file", _file(other, tmp_path))
    assert "PaliGemma/llm/layers/mlp_1/gating_einsum_lora_a: rank" in message


def test_sites_without_an_adapter_are_named(tmp_path: Path, lora: Params, config: str, capsys) -> None:
    """Adapters of fewer sites than recorded are refused, and the sites are listed."""
    some = {p: x for p, x in adapters_alone(lora).items() if not p.startswith(SITE + "/")}
    save_params(some, tmp_path / "adapters")
    openpi.build(BASE_SPEC, tmp_path / "base")
    arguments = ("attach", tmp_path / "adapters", "--to", tmp_path / "base", "-o", tmp_path / "out")
    message = refusal(capsys, *arguments, "--config-file", config)
    assert message == (
        f"{tmp_path}/adapters: the base has 1 sites for which there is no adapter\n"
        f"  - {SITE}/w: expected an adapter of rank 4, found none"
    )


def test_a_base_with_adapters_takes_no_more(tmp_path: Path, lora: Params, capsys) -> None:
    """A checkpoint with adapters is no base."""
    save_params(adapters_alone(lora), tmp_path / "adapters")
    message = refusal(capsys, "attach", tmp_path / "adapters", "--to", tmp_path / "lora", "-o", tmp_path / "out")
    assert message.startswith(f"{tmp_path}/lora/params: already has 20 adapter matrices, for example ")
    assert message.endswith("; pass a base, or fold them first")


def test_a_damaged_record_is_reported(tmp_path: Path, lora: Params, capsys) -> None:
    """An invalid record of alpha is reported as damage, without a traceback."""
    save_params(lora, tmp_path / "recorded", config=MODEL)
    metadata = tmp_path / "recorded" / "_METADATA"
    text = metadata.read_text()
    assert '"alpha": ' in text
    metadata.write_text(text.replace('"alpha": ', '"beta": '))
    message = refusal(capsys, "fold", tmp_path / "recorded", "-o", tmp_path / "out")
    assert message.startswith(f"{tmp_path}/recorded: damaged: its record of LoRA is {{'paligemma': ")
    assert as_flat(lora)
