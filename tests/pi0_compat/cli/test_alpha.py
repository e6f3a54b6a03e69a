"""Alpha by an option, the scale that was used, and model files: no way ends where a number is in no file."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.golden_cases import GOLDEN
from fixtures.params import Params
from fixtures.writers.openpi import read_params
from pi0_compat import Pi0Config, save_params
from pi0_compat.lora.alphas import GROUPS
from suite.writing.asserts import assert_same_bits
from tests.pi0_compat.cli.checkpoints import BASE_SPEC, LORA_SPEC, config_file
from tests.pi0_compat.cli.conftest import Result

Run = Callable[..., Result]


def lora_of(expert: str) -> dict[str, Any]:
    """Return rank, alpha and rslora of an expert's groups, as the tiny model has them."""
    spec: Any = LORA_SPEC
    return dict(spec[expert]["lora"])


def alphas() -> list[str]:
    """Return the options that say what the config of the tiny model says."""
    return [
        word
        for expert in ("paligemma", "action_expert")
        for group, spec in lora_of(expert).items()
        for word in ("--lora-alpha", f"{expert}.{group}={spec['alpha']}")
    ]


@pytest.mark.parametrize("rslora", [False, True])
def test_alpha_by_option_folds_as_the_config_does(
    pi0_compat: Run, tmp_path: Path, lora: Params, config: str, rslora: bool
) -> None:
    """Alpha of each group, given by options, makes the same base as the config; both say which scale they used."""
    spec: Any = copy.deepcopy(LORA_SPEC)
    for expert in ("paligemma", "action_expert"):
        for group in spec[expert]["lora"].values():
            group["rslora"] = rslora
    Path(config).write_text(json.dumps(spec))
    options = [*alphas(), *(["--rslora"] if rslora else [])]
    one = pi0_compat("fold", tmp_path / "lora", "-o", tmp_path / "one", "--config-file", config)
    two = pi0_compat("fold", tmp_path / "lora", "-o", tmp_path / "two", *options)
    assert (one.status, two.status) == (0, 0), one.err + two.err
    assert_same_bits(read_params(tmp_path / "one" / "params"), read_params(tmp_path / "two" / "params"))
    assert f"scales, from --config-file {config}:\n  attention of paligemma: " in one.out
    assert "scales, from --lora-alpha:\n  attention of paligemma: " in two.out
    after = [result.out.partition(":\n")[2].partition("wrote")[0] for result in (one, two)]
    assert after[0] == after[1]


def test_the_document_has_the_scales(pi0_compat: Run, tmp_path: Path, lora: Params) -> None:
    """With `--json` the scale of every group is a number, with what it was taken from."""
    done = pi0_compat("fold", tmp_path / "lora", "-o", tmp_path / "out", "--lora-alpha", "8", "--json")
    assert done.document["scales_from"] == "alpha"
    scales = done.document["scales"]
    rank = lora_of("paligemma")["attn"]["rank"]
    assert scales["paligemma.attn"] == {"rank": rank, "alpha": 8.0, "rslora": False, "scale": 8.0 / rank}
    assert sorted(scales) == ["action_expert.attn", "action_expert.ffn", "paligemma.attn", "paligemma.ffn"]


WRONG = {
    "no number": (
        ["--lora-alpha", "paligemma.attn=x"],
        "--lora-alpha paligemma.attn=x: expected a number, found 'x'",
    ),
    "no group": (
        ["--lora-alpha", "attn=1"],
        f"--lora-alpha attn=1: 'attn' is no group of adapters; expected one of {', '.join(GROUPS)}",
    ),
    "twice": (
        ["--lora-alpha", "paligemma.attn=1", "--lora-alpha", "paligemma.attn=2"],
        "--lora-alpha paligemma.attn=2: given twice for paligemma.attn",
    ),
    "all and one": (
        ["--lora-alpha", "1", "--lora-alpha", "paligemma.attn=2"],
        "--lora-alpha: given for all adapters and for a group; give one alpha, or one for each group",
    ),
    "rslora alone": (["--rslora"], "--rslora: says how a scale comes from --lora-alpha; give that too"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_option_is_named(pi0_compat: Run, tmp_path: Path, lora: Params, case: str) -> None:
    """An alpha that is none is refused with the option as it was given."""
    options, words = WRONG[case]
    done = pi0_compat("fold", tmp_path / "lora", "-o", tmp_path / "out", *options)
    assert done.status == 2
    assert done.err == f"pi0-compat fold: {words}\n"


def test_a_group_without_alpha_is_named(pi0_compat: Run, tmp_path: Path, lora: Params) -> None:
    """Alpha of some groups only is refused with the next group, and a value that no scale has too."""
    done = pi0_compat("fold", tmp_path / "lora", "-o", tmp_path / "out", "--lora-alpha", "paligemma.attn=1")
    rank = lora_of("action_expert")["attn"]["rank"]
    assert done.status == 2
    assert done.err == (
        f"pi0-compat fold: {tmp_path}/lora/params: no alpha is given for the adapters of action_expert.attn "
        f"(rank {rank})\n"
    )
    done = pi0_compat("fold", tmp_path / "lora", "-o", tmp_path / "out", "--lora-alpha", "nan")
    assert done.err == (
        f"pi0-compat fold: {tmp_path}/lora/params: the alpha of paligemma.attn is nan; expected a positive number\n"
    )


def test_extract_warns_of_an_unknown_alpha(pi0_compat: Run, tmp_path: Path, lora: Params) -> None:
    """Adapters without their alpha can still be attached, and a user is warned; with it there is no warning."""
    done = pi0_compat("extract", tmp_path / "lora", "-o", tmp_path / "out")
    warning = "alpha is not known, and not recorded with the adapters; to record it: --config or --lora-alpha"
    assert (done.status, done.err) == (0, f"warning: {warning}\n")
    done = pi0_compat("extract", tmp_path / "lora", "-o", tmp_path / "known", "--lora-alpha", "8")
    assert (done.status, done.err) == (0, "")
    folded = pi0_compat("inspect", tmp_path / "known")
    assert "alpha 8" in folded.out


def test_a_model_file_is_what_config_file_takes(pi0_compat: Run, tmp_path: Path, lora: Params, config: str) -> None:
    """`inspect --write-config` writes a file with which `check` and `fold` work as with the model's own."""
    file = tmp_path / "written.json"
    done = pi0_compat("inspect", tmp_path / "lora", "--write-config", file, "--lora-alpha", "8")
    assert done.status == 0, done.err
    assert f"wrote {file}: a pi0, for --config-file\n  in no shape, so as openpi has it by default: action_horizon" in (
        done.out
    )
    shutil.rmtree(tmp_path / "lora" / "assets")  # stands for norm stats, which check would read
    assert pi0_compat("check", tmp_path / "lora", "--config-file", file).status == 0
    assert pi0_compat("fold", tmp_path / "lora", "-o", tmp_path / "out", "--config-file", file).status == 0
    again = pi0_compat("inspect", tmp_path / "lora", "--write-config", file, "--lora-alpha", "8")
    assert (again.status, again.err) == (
        2,
        f"pi0-compat inspect: {file}: already exists; choose another file or remove it first\n",
    )


def test_a_model_file_has_no_invented_alpha(pi0_compat: Run, tmp_path: Path, lora: Params) -> None:
    """Alpha that is nowhere is asked for, and nothing is written."""
    done = pi0_compat("inspect", tmp_path / "lora", "--write-config", tmp_path / "written.json")
    assert done.status == 2
    assert done.err.endswith(
        "lora/params: the alpha of its adapters is not recorded, and a model file has it; give it: --lora-alpha\n"
    )
    assert not (tmp_path / "written.json").exists()


def test_a_part_of_a_model_has_no_model_file(pi0_compat: Run, tmp_path: Path, tiny: Path) -> None:
    """A PaliGemma has no action expert, and none is made up."""
    for name in ("paligemma.npz", "hugging_face", "gemma"):
        done = pi0_compat("inspect", tiny / name, "--write-config", tmp_path / "written.json")
        assert done.status == 2
        assert "is no whole pi0, pi05 or pi0_fast" in done.err
        assert done.err.endswith("take the base that it belongs to\n")


def test_a_named_model_keeps_its_lengths(pi0_compat: Run, tmp_path: Path) -> None:
    """Of a model whose shapes are a named config's, the lengths that no shape shows are that config's."""
    file = tmp_path / "written.json"
    done = pi0_compat("inspect", GOLDEN / "pi05_base", "--write-config", file)
    assert done.status == 0, done.err
    assert json.loads(file.read_text())["family"] == "pi05"
    assert "in no shape, so as pi05_" in done.out


@pytest.mark.parametrize("command", [("fold",), ("convert", "--to", "openpi", "--fold")])
def test_the_config_of_the_base_leaves_the_recorded_alpha(
    pi0_compat: Run, tmp_path: Path, lora: Params, config: str, command: tuple[str, ...]
) -> None:
    """Where alpha is recorded, the config of the base says which model it is, and the recorded scale is used."""
    recorded = tmp_path / "recorded" / "params"
    save_params(lora, recorded, config=Pi0Config.from_json({**LORA_SPEC}))
    base = config_file(BASE_SPEC, tmp_path / "recorded")
    for name, model in (("by_lora", config), ("by_base", base)):
        assert pi0_compat(*command, recorded, "-o", tmp_path / name, "--config-file", model).status == 0
    by_lora, by_base = (read_params(tmp_path / name / "params") for name in ("by_lora", "by_base"))
    assert_same_bits(by_base, by_lora)
