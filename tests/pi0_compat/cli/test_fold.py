"""`pi0-compat fold`, `extract` and `attach`: what they write, what they say, and what they refuse."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fixtures.params import Params
from fixtures.specs import tiny
from fixtures.writers import openpi_orbax, openpi_pytorch
from fixtures.writers.openpi_orbax import read_params
from pi0_compat import save_params
from pi0_compat.cli import main as cli
from pi0_compat.layouts.orbax.metadata import read_metadata
from pi0_compat.lora import fold as adapters
from pi0_compat.model.config import Pi0Config
from pi0_compat.params import as_flat
from suite.writing.asserts import assert_close, assert_same_bits
from suite.writing.cases import digests, is_adapter
from tests.pi0_compat.cli.checkpoints import BASE_SPEC, LORA_SPEC, STATS, config_file, refusal, step, told

MODEL = Pi0Config.from_json({**LORA_SPEC})
# Sums of at most rank x heads products of order one, in another order; float32 eps is 1.2e-7.
FOLD_ATOL = 1e-5


def test_fold_writes_the_base_that_computes_the_same(tmp_path: Path, lora: Params, config: str, capsys) -> None:
    """Adapted weights have their delta, the others their bits, and the norm stats lie beside them."""
    shown = told(capsys, "fold", tmp_path / "lora", "-o", tmp_path / "out", "--config-file", config)
    found, expected = read_params(tmp_path / "out" / "params"), adapters.fold(lora, MODEL).params
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        assert_close(found[path], array, atol=FOLD_ATOL, name=path)
    assert_same_bits(
        {p: x for p, x in found.items() if f"{p.removesuffix('/w')}" in p and expected[p] is lora[p]},
        {p: x for p, x in expected.items() if x is lora[p]},
    )
    assert digests(tmp_path / "out" / "assets") == digests(tmp_path / "lora" / "assets")
    assert (shown["parameters"], shown["assets"], shown["verified"]) == (len(expected), True, True)
    assert shown["lost"].keys() == {path for path in expected if expected[path] is not lora[path]}
    assert read_metadata(tmp_path / "out" / "params").lora == {}


def test_fold_takes_what_is_recorded(tmp_path: Path, lora: Params, capsys) -> None:
    """A checkpoint that records rank and alpha needs no config."""
    save_params(lora, tmp_path / "recorded", config=MODEL)
    told(capsys, "fold", tmp_path / "recorded", "-o", tmp_path / "out")
    expected = adapters.fold(lora, MODEL).params
    for path, array in read_params(tmp_path / "out" / "params").items():
        assert_close(array, expected[path], atol=FOLD_ATOL, name=path)


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_fold_rounds_once(tmp_path: Path, config: str, capsys, stored: str) -> None:
    """In bfloat16 a weight is the float32 sum, rounded; all other parameters are cast."""
    params = step(LORA_SPEC, tmp_path / "lora", dtype=stored)
    options = ("--config-file", config, "--dtype", "bfloat16")
    told(capsys, "fold", tmp_path / "lora", "-o", tmp_path / "out", *options)
    wide = {path: x.astype(np.float32) for path, x in params.items()}
    expected = adapters.fold(wide, MODEL).params
    found = read_params(tmp_path / "out" / "params")
    assert {x.dtype for x in found.values()} == {np.dtype(ml_dtypes.bfloat16)}
    for path, array in expected.items():
        # Half a unit in the last place of eight bits, and the order of a sum.
        assert_close(found[path], array, rtol=2**-8, atol=FOLD_ATOL, name=path)


def test_fold_says_what_rounding_took(tmp_path: Path, lora: Params, config: str, capsys) -> None:
    """A line for every adapter; where much is lost, a warning with the way out."""
    small = {p: 1e-3 * x if p.endswith("lora_b") else x for p, x in lora.items()}
    save_params(small, tmp_path / "small")
    arguments = ["fold", tmp_path / "small", "--config-file", config]
    assert cli.main([*map(str, arguments), "-o", str(tmp_path / "wide")]) == 0
    shown = capsys.readouterr()
    assert "folded 10 adapters; of what each adds, rounding took:\n" in shown.out
    assert "\n  PaliGemma/llm/layers/mlp_1/linear              under 0.1%\n" in shown.out
    assert f"\nwrote {tmp_path}/wide/params: 50 parameters, " in shown.out
    assert "\n  read back: every parameter is what was meant\n  norm stats: none\n" in shown.out
    assert "rounding took" not in shown.err
    assert cli.main([*map(str, arguments), "-o", str(tmp_path / "narrow"), "--dtype", "bfloat16"]) == 0
    told_of = r"rounding took "
    err = capsys.readouterr().err
    assert told_of in err
    assert "% of what the adapter of PaliGemma/llm/layers/" in err
    assert "adds; to keep it: --dtype float32" in err


def test_fold_wants_alpha(tmp_path: Path, lora: Params, capsys) -> None:
    """openpi records no alpha: without a config there is none, and nothing is written."""
    message = refusal(capsys, "fold", tmp_path / "lora", "-o", tmp_path / "out")
    assert message.startswith(f"{tmp_path}/lora/params: the alpha of PaliGemma/llm/layers/attn/attn_vec_einsum/lora_a")
    assert "is not known: the checkpoint does not record it; pass the config that it was trained with (--config)" in (
        message
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lora"]


def test_fold_of_another_rank_is_refused(tmp_path: Path, lora: Params, capsys) -> None:
    """A config of another rank would have another alpha / rank."""
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
    ("command", "so"), [("fold", "there is nothing to fold"), ("extract", "there is nothing to extract")]
)
def test_a_base_has_no_adapters(tmp_path: Path, capsys, command: str, so: str) -> None:
    """Of a base checkpoint there is nothing to fold or to take out."""
    step(BASE_SPEC, tmp_path / "base")
    message = refusal(capsys, command, tmp_path / "base", "-o", tmp_path / "out")
    assert message == f"{tmp_path}/base/params: none of its 50 parameters is an adapter; {so}"


def test_another_layout_is_to_be_converted_first(tmp_path: Path, capsys) -> None:
    """PyTorch's layout has no adapters to fold."""
    openpi_pytorch.build(BASE_SPEC, tmp_path / "torch")
    message = refusal(capsys, "fold", tmp_path / "torch", "-o", tmp_path / "out")
    assert message == (
        f"{tmp_path}/torch: expected a checkpoint in openpi's layout, found openpi-pytorch; convert it first"
    )


@pytest.mark.parametrize("command", ["fold", "extract"])
def test_nothing_is_overwritten(tmp_path: Path, lora: Params, config: str, capsys, command: str) -> None:
    """What is at OUT is refused before anything is read, and stays."""
    (tmp_path / "out").write_text("mine")
    message = refusal(capsys, command, tmp_path / "nowhere", "-o", tmp_path / "out", "--config-file", config)
    assert message == f"{tmp_path}/out: already exists; choose another folder or remove it first"
    assert (tmp_path / "out").read_text() == "mine"


def test_extract_and_attach_give_the_model_back(tmp_path: Path, lora: Params, config: str, capsys) -> None:
    """Adapters and base, taken apart and put together, are the checkpoint bit for bit; alpha goes along."""
    told(capsys, "extract", tmp_path / "lora", "-o", tmp_path / "adapters", "--config-file", config)
    told(capsys, "extract", tmp_path / "lora", "-o", tmp_path / "base", "--base")
    shown = told(capsys, "attach", tmp_path / "adapters", "--to", tmp_path / "base", "-o", tmp_path / "again")
    assert_same_bits(read_params(tmp_path / "adapters" / "params"), {p: x for p, x in lora.items() if is_adapter(p)})
    assert_same_bits(read_params(tmp_path / "base" / "params"), {p: x for p, x in lora.items() if not is_adapter(p)})
    assert_same_bits(read_params(tmp_path / "again" / "params"), lora)
    assert read_metadata(tmp_path / "again" / "params").lora == MODEL.lora
    assert shown["base"] == str(tmp_path / "base")
    assert (tmp_path / "again" / "assets" / STATS).is_file()


def test_the_norm_stats_are_those_of_the_adapters(tmp_path: Path, lora: Params, capsys) -> None:
    """What was fine-tuned was fine-tuned with the stats of its own data."""
    told(capsys, "extract", tmp_path / "lora", "-o", tmp_path / "adapters")
    (tmp_path / "adapters" / "assets" / STATS).write_text("of the adapters")
    told(capsys, "extract", tmp_path / "lora", "-o", tmp_path / "base", "--base")
    told(capsys, "attach", tmp_path / "adapters", "--to", tmp_path / "base", "-o", tmp_path / "again")
    assert (tmp_path / "again" / "assets" / STATS).read_text() == "of the adapters"


def adapters_alone(params: Params) -> Params:
    return {path: array for path, array in params.items() if is_adapter(path)}


SITE = "PaliGemma/llm/layers/attn/q_einsum"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda p: p | {"x": np.ones(2, np.float32)},
            "1 parameters are no adapters, for example x; extract them first",
        ),
        (lambda p: {q: x for q, x in p.items() if q != f"{SITE}/lora_b"}, f"{SITE}/lora_b is missing, but the rest of"),
        (lambda p: p | {f"{SITE}/lora_a": p[f"{SITE}/lora_a"][..., :-1, :]}, f"{SITE}/lora_a: expected shape"),
    ],
    ids=["not an adapter", "half an adapter", "another shape"],
)
def test_what_is_not_of_the_base_is_not_attached(tmp_path: Path, lora: Params, capsys, change, text: str) -> None:
    """Strangers, halves and other shapes are refused by the adapters' checkpoint and the parameter."""
    save_params(change(adapters_alone(lora)), tmp_path / "adapters")
    openpi_orbax.build(BASE_SPEC, tmp_path / "base")
    message = refusal(capsys, "attach", tmp_path / "adapters", "--to", tmp_path / "base", "-o", tmp_path / "out")
    assert message.startswith(f"{tmp_path}/adapters: {text}")
    assert not (tmp_path / "out").exists()


def test_another_rank_than_recorded_is_not_attached(tmp_path: Path, lora: Params, capsys) -> None:
    """Adapters whose rank is not what is recorded with them would have another scale."""
    told(capsys, "extract", "-o", tmp_path / "adapters", tmp_path / "lora")
    openpi_orbax.build(BASE_SPEC, tmp_path / "base")
    other = tiny("pi0", lora="both", num_kv_heads=2)
    other["action_expert"]["lora"]["ffn"]["rank"] += 1  # type: ignore[index]
    arguments = ("attach", tmp_path / "adapters", "--to", tmp_path / "base", "-o", tmp_path / "out")
    message = refusal(capsys, *arguments, "--config-file", _file(other, tmp_path))
    assert "PaliGemma/llm/layers/mlp_1/gating_einsum_lora_a: rank" in message


def test_sites_without_an_adapter_are_named(tmp_path: Path, lora: Params, config: str, capsys) -> None:
    """Adapters of fewer sites than are recorded with them are refused, and the sites are listed."""
    some = {p: x for p, x in adapters_alone(lora).items() if not p.startswith(SITE + "/")}
    save_params(some, tmp_path / "adapters")
    openpi_orbax.build(BASE_SPEC, tmp_path / "base")
    arguments = ("attach", tmp_path / "adapters", "--to", tmp_path / "base", "-o", tmp_path / "out")
    message = refusal(capsys, *arguments, "--config-file", config)
    assert message == (
        f"{tmp_path}/adapters: the base has 1 sites for which there is no adapter\n"
        f"  - {SITE}/w: expected an adapter of rank 4, found none"
    )


def test_a_base_with_adapters_takes_no_more(tmp_path: Path, lora: Params, capsys) -> None:
    """What has adapters already is no base."""
    save_params(adapters_alone(lora), tmp_path / "adapters")
    message = refusal(capsys, "attach", tmp_path / "adapters", "--to", tmp_path / "lora", "-o", tmp_path / "out")
    assert message.startswith(f"{tmp_path}/lora/params: already has 20 adapter matrices, for example ")
    assert message.endswith("; pass a base, or fold them first")


def test_a_damaged_record_is_told(tmp_path: Path, lora: Params, capsys) -> None:
    """A record of alpha that is none is damage, and no traceback."""
    save_params(lora, tmp_path / "recorded", config=MODEL)
    metadata = tmp_path / "recorded" / "_METADATA"
    text = metadata.read_text()
    assert '"alpha": ' in text
    metadata.write_text(text.replace('"alpha": ', '"beta": '))
    message = refusal(capsys, "fold", tmp_path / "recorded", "-o", tmp_path / "out")
    assert message.startswith(f"{tmp_path}/recorded: damaged: its record of LoRA is {{'paligemma': ")
    assert as_flat(lora)
