"""``convert LEROBOT --to openpi``: what lerobot saved arrives with norm stats, and what openpi had comes back."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import content
from fixtures.golden_cases import GOLDEN
from fixtures.lerobot_policies import FAMILIES, SavedPolicy, saved_policy
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny
from fixtures.writers import lerobot, safetensors_file
from fixtures.writers.openpi import read_params
from pi0_compat import convert_checkpoint, inspect_checkpoint
from pi0_compat.checkpoints.convert import Converted
from pi0_compat.errors import CheckpointError, LoadError
from pi0_compat.model.config import Pi0Config
from pi0_compat.norm_stats.lerobot_files import write_tensors
from pi0_compat.norm_stats.openpi_files import read_norm_stats
from pi0_compat.norm_stats.stats import Stats
from suite.writing.asserts import assert_same_bits
from suite.writing.cases import digests
from tests.pi0_compat.checkpoints import lerobot_steps
from tests.pi0_compat.norm_stats.formulas import openpi, openpi_back

ROOT = "model.paligemma_with_expert.paligemma."
TABLE, HEAD = f"{ROOT}model.language_model.embed_tokens.weight", f"{ROOT}lm_head.weight"


def convert(saved: SavedPolicy, out: Path, policy: Path | None = None, **options: Any) -> Converted:
    """Convert a policy to openpi's layout."""
    config = Pi0Config.from_json({**saved.spec})
    return convert_checkpoint(policy or saved.policy, out, config=config, layout="openpi", **options)


def copied(saved: SavedPolicy, folder: Path) -> Path:
    """Return a copy of a policy, to be changed."""
    shutil.copytree(saved.policy, folder)
    return folder


@pytest.fixture(params=FAMILIES)
def saved(request: pytest.FixtureRequest) -> SavedPolicy:
    """A policy of each family."""
    return saved_policy(request.param)


def test_a_policy_is_known_as_lerobots(saved: SavedPolicy) -> None:
    """Its layout is lerobot, and it is whole, though a full training left the table of the output layer behind."""
    tensors = safetensors_file.read(saved.policy / "model.safetensors")
    assert not np.array_equal(tensors[TABLE], tensors[HEAD])
    described = inspect_checkpoint(saved.policy)
    assert (described.layout, described.family, described.missing) == ("lerobot", saved.spec["family"], ())
    assert [found.name for found in described.norm_stats] == ["policy_preprocessor.json", "policy_postprocessor.json"]


def test_parameters_arrive(saved: SavedPolicy, tmp_path: Path) -> None:
    """The tree is openpi's, the token table is the one that lerobot reads, and what is left out is listed."""
    done = convert(saved, tmp_path / "out")
    params = read_params(tmp_path / "out" / "params")
    assert params.keys() == Pi0Config.from_json({**saved.spec}).param_spec().keys()
    tensors = safetensors_file.read(saved.policy / "model.safetensors")
    table = "PaliGemma/llm/embedder/input_embedding"
    assert_same_bits({table: params[table]}, {table: tensors[TABLE]})
    assert {path.rpartition(".gemma_expert.")[2].rpartition(".paligemma.")[2] for path in done.left_out} == {
        "lm_head.weight"
    }


def test_norm_stats_keep_their_meaning(saved: SavedPolicy, tmp_path: Path) -> None:
    """openpi normalizes states and actions, and denormalizes actions, as lerobot's own processors did."""
    done = convert(saved, tmp_path / "out")
    assert (done.assets, done.inexact) == (True, ())
    stats, family, arrays = read_norm_stats(tmp_path / "out" / "assets" / "lerobot"), saved.spec["family"], saved.arrays
    pairs = (("state", "raw_state", "normalized_state"), ("actions", "raw_action", "normalized_action"))
    for name, raw, normalized in pairs:
        got = openpi(arrays[raw].astype(np.float64), stats[name], family)
        np.testing.assert_allclose(got, arrays[normalized], rtol=1e-5, atol=2e-6)
    got = openpi_back(arrays["output_action"].astype(np.float64), stats["actions"], family)
    np.testing.assert_allclose(got, arrays["denormalized_action"], rtol=1e-5, atol=2e-6)


def test_the_asset_id_is_the_data_sets(tmp_path: Path) -> None:
    """By default norm stats have the name of the data set, as openpi's config has; a name may be given."""
    saved = saved_policy("pi0")
    policy = copied(saved, tmp_path / "policy")
    (policy / "train_config.json").write_text(json.dumps({"dataset": {"repo_id": "me/cubes"}}))
    convert(saved, tmp_path / "a", policy)
    assert (tmp_path / "a" / "assets" / "me" / "cubes" / "norm_stats.json").is_file()
    convert(saved, tmp_path / "b", policy, asset_id="arm")
    assert (tmp_path / "b" / "assets" / "arm" / "norm_stats.json").is_file()
    (policy / "train_config.json").write_text(json.dumps({"dataset": {"repo_id": "../../cubes"}}))
    convert(saved, tmp_path / "c", policy)
    assert (tmp_path / "c" / "assets" / "lerobot" / "norm_stats.json").is_file()
    with pytest.raises(ValueError, match="expected a name, or an owner and a name"):
        convert(saved, tmp_path / "d", policy, asset_id="../out")
    assert not (tmp_path / "d").exists()


def test_a_policy_without_statistics(tmp_path: Path) -> None:
    """A base policy's processors have none: a warning says so, and no file is made up."""
    saved = saved_policy("pi0")
    policy = copied(saved, tmp_path / "policy")
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        document = json.loads((policy / name).read_text())
        for step in document["steps"]:
            step.pop("state_file", None)
        (policy / name).write_text(json.dumps(document))
    with pytest.warns(UserWarning, match="its processors have no statistics"):
        done = convert(saved, tmp_path / "out", policy)
    assert done.assets is False
    assert not (tmp_path / "out" / "assets").exists()


def test_damaged_statistics_leave_nothing(tmp_path: Path) -> None:
    """A missing or truncated file of statistics is named, and no output appears."""
    saved = saved_policy("pi0")
    policy = copied(saved, tmp_path / "policy")
    (file,) = policy.glob("policy_preprocessor_step_*.safetensors")
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=file.name):
        convert(saved, tmp_path / "out", policy)
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{file.name}: not there"):
        convert(saved, tmp_path / "out", policy)
    assert not (tmp_path / "out").exists()


def test_normalized_images_have_no_place(tmp_path: Path) -> None:
    """openpi does not normalize images; a policy that does is refused."""
    saved = saved_policy("pi0")
    policy = copied(saved, tmp_path / "policy")
    file = policy / "policy_preprocessor.json"
    file.write_text(file.read_text().replace('"VISUAL": "IDENTITY"', '"VISUAL": "MEAN_STD"'))
    (state,) = policy.glob("policy_preprocessor_step_*.safetensors")
    tensors = safetensors_file.read(state)
    tensors |= {f"observation.images.base_0_rgb.{name}": np.ones((3, 1, 1), np.float32) for name in ("mean", "std")}
    safetensors_file.write(tensors, state)
    with pytest.raises(LoadError, match=r"observation.images.base_0_rgb \(VISUAL\) is normalized by MEAN_STD"):
        convert(saved, tmp_path / "out", policy)


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_what_openpi_had_comes_back(tmp_path: Path, family: str) -> None:
    """openpi to lerobot and back: parameters and norm stats bit for bit, under their asset id."""
    lerobot_steps.policy(tmp_path, family, delta_actions=())
    convert_checkpoint(tmp_path / "policy", tmp_path / "back", config=f"{family}_base_tiny", layout="openpi")
    assert_same_bits(read_params(tmp_path / "back" / "params"), read_params(tmp_path / family / "params"))
    assert digests(tmp_path / "back" / "assets") == digests(tmp_path / family / "assets")


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_statistics_alone_come_back(tmp_path: Path, family: str) -> None:
    """Without openpi's own file, the processors' statistics give the same but for float32."""
    lerobot_steps.policy(tmp_path, family, delta_actions=())
    shutil.rmtree(tmp_path / "policy" / "assets")
    convert_checkpoint(tmp_path / "policy", tmp_path / "back", config=f"{family}_base_tiny", layout="openpi")
    found = read_norm_stats(tmp_path / "back" / "assets" / "lerobot")
    for name, stats in read_norm_stats(tmp_path / family / lerobot_steps.STATS).items():
        for statistic, values in stats.known():
            np.testing.assert_allclose(found[name][statistic], values, rtol=2e-6, atol=1e-6)


def test_a_training_since_counts(tmp_path: Path) -> None:
    """openpi's own file beside processors that have other statistics by now is not taken, and named."""
    lerobot_steps.policy(tmp_path, "pi0", delta_actions=())
    before, _ = lerobot_steps.normalizers(tmp_path / "policy")
    for state in (tmp_path / "policy").glob("policy_*_step_*.safetensors"):
        tensors = safetensors_file.read(state)
        safetensors_file.write({name: x + 1 if name.endswith(".mean") else x for name, x in tensors.items()}, state)
    done = convert_checkpoint(tmp_path / "policy", tmp_path / "back", config="pi0_base_tiny", layout="openpi")
    assert "is not what the processors have" in done.inexact[-1]
    found = read_norm_stats(tmp_path / "back" / "assets" / "robot")
    np.testing.assert_allclose(found["state"]["mean"], _values(before.stats["observation.state"]) + 1, rtol=1e-6)


def _values(stats: Stats) -> np.ndarray:
    return stats["mean"]


def test_a_peft_training_is_merged(saved: SavedPolicy, tmp_path: Path) -> None:
    """With its base, an adapter of lerobot's becomes a model of openpi's, with the training's norm stats."""
    done = convert(saved, tmp_path / "out", saved.adapter, base=saved.policy)
    convert(saved, tmp_path / "base")
    params, base = (read_params(tmp_path / name / "params") for name in ("out", "base"))
    changed = {path for path in params if not np.array_equal(params[path], base[path])}
    tensors = safetensors_file.read(saved.adapter / "adapter_model.safetensors")
    attention = {f"PaliGemma/llm/layers/attn/{name}_einsum_1/w" for name in ("q", "kv")}
    modules = {name.split(".")[3] for name in tensors} - {"paligemma_with_expert"}
    projections = {f"{module}/kernel" for module in modules}
    assert changed == attention | projections
    assert (done.assets, len(done.lost)) == (True, len(tensors) // 2)
    assert max(done.lost.values()) < 1e-5


def test_a_base_is_for_an_adapter(tmp_path: Path) -> None:
    """A base for what is no adapter, and a base that is none, are refused."""
    saved = saved_policy("pi0")
    with pytest.raises(LoadError, match="base is for a PEFT adapter, and this is lerobot"):
        convert(saved, tmp_path / "out", saved.policy, base=saved.policy)
    with pytest.raises(LoadError, match="has to be in PyTorch's names, and this is openpi"):
        convert(saved, tmp_path / "out", saved.adapter, base=GOLDEN / "pi0_base" / "params")
    assert not (tmp_path / "out").exists()


def sharded(saved: SavedPolicy, folder: Path) -> Path:
    """Return a copy of a policy whose weights are in two shards with an index, as on the Hub."""
    policy = copied(saved, folder)
    tensors = safetensors_file.read(policy / "model.safetensors")
    (policy / "model.safetensors").unlink()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    weight_map = {name: names[number % 2] for number, name in enumerate(sorted(tensors))}
    for shard in names:
        own = {name: x for name, x in tensors.items() if weight_map[name] == shard}
        safetensors_file.write(own, policy / shard)
    (policy / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return policy


def test_shards_are_read(tmp_path: Path) -> None:
    """A policy in shards arrives as one in a file does, its adapters too."""
    saved = saved_policy("pi05")
    policy = sharded(saved, tmp_path / "policy")
    assert inspect_checkpoint(policy).layout == "lerobot"
    convert(saved, tmp_path / "whole")
    convert(saved, tmp_path / "out", policy)
    assert_same_bits(read_params(tmp_path / "out" / "params"), read_params(tmp_path / "whole" / "params"))
    assert digests(tmp_path / "out" / "assets") == digests(tmp_path / "whole" / "assets")
    convert(saved, tmp_path / "merged", saved.adapter, base=policy)
    convert(saved, tmp_path / "merged_whole", saved.adapter, base=saved.policy)
    assert_same_bits(read_params(tmp_path / "merged" / "params"), read_params(tmp_path / "merged_whole" / "params"))


def fast_policy(folder: Path, tables_apart: bool = False) -> tuple[ModelSpec, Params]:
    """Write a pi0-FAST of openpi's as lerobot saves one: a PaliGemma, and statistics for z-scores."""
    spec = tiny("pi0_fast")
    whole = content.params(tiny("pi0"), 3, "float32")
    params = {path: whole[path] for path in Pi0Config.from_json({**spec}).param_spec()}
    tensors = {name: x for name, x in lerobot.tensors(whole).items() if name.startswith(ROOT)}
    tensors[TABLE] = tensors[HEAD] + np.float32(tables_apart)
    lerobot.write(tensors, folder, spec)
    stats = {"mean": np.array([0.5, 1]), "std": np.array([2.0, 0.1])}
    names = {"observation.state": "STATE", "action": "ACTION"}
    for name, kind in (("policy_preprocessor", "normalizer"), ("policy_postprocessor", "unnormalizer")):
        write_tensors({feature: Stats(**stats) for feature in names}, folder / f"{name}.safetensors")
        config = {
            "features": {feature: {"type": kind, "shape": [2]} for feature, kind in names.items()},
            "norm_map": {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
        }
        step = {"registry_name": f"{kind}_processor", "config": config, "state_file": f"{name}.safetensors"}
        (folder / f"{name}.json").write_text(json.dumps({"name": name, "steps": [step]}))
    return spec, params


def test_a_fast_policy_arrives(tmp_path: Path) -> None:
    """A pi0-FAST, which openpi does not have in PyTorch, is read; its z-scores become the quantiles of openpi."""
    spec, params = fast_policy(tmp_path / "policy")
    assert inspect_checkpoint(tmp_path / "policy").family == "pi0_fast"
    config = Pi0Config.from_json({**spec})
    done = convert_checkpoint(tmp_path / "policy", tmp_path / "out", config=config, layout="openpi")
    assert_same_bits(read_params(tmp_path / "out" / "params"), params)
    assert [note.partition(":")[0] for note in done.inexact] == ["state", "actions"]
    x = np.random.default_rng(0).normal(size=(9, 2))
    stats = read_norm_stats(tmp_path / "out" / "assets" / "lerobot")
    np.testing.assert_allclose(openpi(x, stats["state"], "pi0_fast"), (x - [0.5, 1]) / [2, np.float32(0.1)], rtol=1e-5)


def test_a_fast_policy_has_one_table(tmp_path: Path) -> None:
    """lerobot's pi0-FAST reads both of its token tables, openpi's has one: they have to be equal."""
    spec, _ = fast_policy(tmp_path / "policy", tables_apart=True)
    with pytest.raises(LoadError, match="differ in the file"):
        convert_checkpoint(tmp_path / "policy", tmp_path / "out", config=Pi0Config.from_json({**spec}), layout="openpi")
