"""Giving a model its parameters: every leaf of model and checkpoint is accounted for, what does not fit is refused."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fixtures import openpi_orbax
from fixtures.corruptions import CORRUPTIONS, Corruption
from fixtures.specs import ModelSpec, tiny
from suite.asserts import assert_different, assert_same_bits, assert_same_paths, refused
from suite.cases import digests, from_checkpoint, from_paligemma, is_adapter
from suite.contracts.conftest import Checkpoint
from suite.registry import contract
from suite.subjects.protocol import Subject

BASE_WEIGHT = "PaliGemma/llm/layers/mlp/linear"


def damages(severity: str, layout: str) -> pytest.MarkDecorator:
    found = [damage for damage in CORRUPTIONS if damage.severity == severity and layout in damage.layouts()]
    return pytest.mark.parametrize("damage", found, ids=[damage.name for damage in found])


@contract(source="openpi weight_loaders.py:33; bugs rule 4", needs=("load",))
def test_base_fills_base(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """A base checkpoint fills a base model with its own bits."""
    loaded = subject.load(base_checkpoint.spec, from_checkpoint(base_checkpoint.path), seed=0)
    assert_same_bits(loaded["params"], base_checkpoint.params)


@contract(source="openpi #283, config pi0_libero_low_mem_finetune on pi0_base", needs=("load", "lora"))
def test_base_into_lora_adds_only_adapters(subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec) -> None:
    """A base checkpoint fills a LoRA model; only adapters are fresh, and they are there."""
    params = subject.load(lora_spec, from_checkpoint(base_checkpoint.path), seed=0)["params"]
    assert_same_bits({path: x for path, x in params.items() if not is_adapter(path)}, base_checkpoint.params)
    assert_same_paths(params, subject.param_spec(lora_spec))


@contract(source="openpi weight_loaders.py:33", needs=("load", "save", "lora"))
def test_saved_lora_loads_into_lora(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A saved LoRA checkpoint loads into its LoRA model, adapters bit for bit, for training and for serving."""
    path = str(tmp_path / "params")
    subject.save(lora_checkpoint.spec, lora_checkpoint.params, path)
    loaded = subject.load(lora_checkpoint.spec, from_checkpoint(path), seed=0)
    assert_same_bits(loaded["params"], lora_checkpoint.params)
    assert_same_bits(subject.load_for_inference(lora_checkpoint.spec, path), lora_checkpoint.params)


@contract(source="bugs rule 5, C1, C5", needs=("load", "load_report", "lora"))
def test_reports_every_leaf(
    subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec, tmp_path: Path
) -> None:
    """The report counts each leaf of model and checkpoint once: loaded, cast, initialised or dropped."""
    # An unused parameter with "lora" in its name, which is no adapter for that.
    stored = base_checkpoint.params | {"explorations/kernel": np.ones(2, np.float32)}
    stored[BASE_WEIGHT] = stored[BASE_WEIGHT].astype(np.float16)
    openpi_orbax.write(stored, tmp_path / "params")
    report = subject.load(lora_spec, from_checkpoint(tmp_path / "params"), seed=0)["report"]
    assert_same_paths(report, subject.param_spec(lora_spec).keys() | stored.keys())
    assert Counter(report.values()) == {
        "loaded": len(stored) - 2,
        "cast": 1,
        "dropped": 1,
        "initialised": 20,
    }
    assert (report[BASE_WEIGHT], report["explorations/kernel"]) == ("cast", "dropped")


@contract(source="lerobot #4577; bugs P1, rule 4", needs=("load", "load_report", "lora"))
def test_what_claims_to_be_loaded_is(subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec) -> None:
    """Two loads with other seeds agree on every leaf that is reported as loaded, and differ in fresh lora_a."""
    first, second = (subject.load(lora_spec, from_checkpoint(base_checkpoint.path), seed) for seed in (0, 1))
    loaded = [path for path, status in first["report"].items() if status == "loaded"]
    assert_same_bits({p: first["params"][p] for p in loaded}, {p: second["params"][p] for p in loaded})
    for path in (path for path in first["params"] if path.endswith("lora_a")):
        assert_different(first["params"][path], second["params"][path])


@contract(source="openpi #283; bugs C9", needs=("load_for_inference", "lora"))
def test_base_for_lora_is_refused_with_the_way_out(
    subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec
) -> None:
    """Serving a base checkpoint with a LoRA config is refused, names a missing adapter and what to call."""
    with refused("PaliGemma/llm/layers/attn/q_einsum/lora_a", "initialize_lora_parameters"):
        subject.load_for_inference(lora_spec, base_checkpoint.path)


@contract(
    source="bugs C1, C2; openpi weight_loaders.py:90, model.py:233",
    needs=("load", "load_for_inference", "lora"),
)
def test_unused_adapters_are_refused(subject: Subject, lora_checkpoint: Checkpoint, base_spec: ModelSpec) -> None:
    """A LoRA checkpoint for a base model is refused, for training and for serving: its fine-tuning would be lost."""
    with refused("PaliGemma/llm/layers/attn/q_einsum/lora_a"):
        subject.load(base_spec, from_checkpoint(lora_checkpoint.path), seed=0)
    with refused("PaliGemma/llm/layers/attn/q_einsum/lora_a"):
        subject.load_for_inference(base_spec, lora_checkpoint.path)


@contract(source="bugs C10; openpi #648, #672", needs=("load", "pi05"))
def test_other_family_is_named(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """A pi0 checkpoint for a pi05 model is refused, and the error says which family is which."""
    with refused("pi05", "pi0"):
        subject.load(tiny("pi05"), from_checkpoint(base_checkpoint.path), seed=0)


@contract(source="bugs C5", needs=("load", "lora"))
def test_only_adapters_may_be_missing(
    subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec, tmp_path: Path
) -> None:
    """A LoRA model takes a checkpoint without adapters, and none that lacks anything else: the error names it."""
    stored = {path: array for path, array in base_checkpoint.params.items() if path != BASE_WEIGHT}
    openpi_orbax.write(stored, tmp_path / "params")
    with refused(BASE_WEIGHT):
        subject.load(lora_spec, from_checkpoint(tmp_path / "params"), seed=0)


@contract(source="bugs C11", needs=("load",))
def test_wrong_shapes_are_listed_at_once(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Parameters of other shapes are refused, and the error lists all of them with both shapes."""
    shorter = {path: base_checkpoint.params[path][:-1] for path in ("action_in_proj/kernel", "action_out_proj/bias")}
    openpi_orbax.write(base_checkpoint.params | shorter, tmp_path / "params")
    with refused(*shorter, "[9, 36]", "[8, 36]"):
        subject.load(base_checkpoint.spec, from_checkpoint(tmp_path / "params"), seed=0)


@contract(source="the damage's own line in fixtures/corruptions.py", needs=("load",))
@damages("critical", "openpi_orbax")
def test_damaged_checkpoint_is_refused(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """A checkpoint with critical damage is refused by name, and none of its files changes."""
    path = tmp_path / "params"
    damage.apply(damage.spec(), path, layout="openpi_orbax")
    before = digests(path)
    with refused(str(path)):
        subject.load(damage.spec(), from_checkpoint(path), seed=0)
    assert digests(path) == before


@contract(source="the damage's own line in fixtures/corruptions.py", needs=("load",))
@damages("benign", "openpi_orbax")
def test_harmless_oddity_loads(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """A checkpoint with a benign oddity loads, every parameter of the model as it was written."""
    path = tmp_path / "params"
    written = damage.apply(damage.spec(), path, layout="openpi_orbax")
    params = subject.load(damage.spec(), from_checkpoint(path), seed=0)["params"]
    assert_same_bits(params, {path: written[path] for path in params})


@contract(source="the damage's own line in fixtures/corruptions.py", needs=("load", "paligemma_npz"))
@damages("critical", "paligemma_npz")
def test_damaged_npz_is_refused(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """An npz with critical damage (truncated, flipped, pickled, ill-fitting) is refused by name and left as it is."""
    path = tmp_path / "pt_224.npz"
    damage.apply(damage.spec(), path, layout="paligemma_npz")
    before = digests(tmp_path)
    with refused(str(path)):
        subject.load(damage.spec(), from_paligemma(path), seed=0)
    assert digests(tmp_path) == before


@contract(source="the damage's own line in fixtures/corruptions.py", needs=("load", "paligemma_npz"))
@damages("benign", "paligemma_npz")
def test_harmless_npz_oddity_loads(subject: Subject, damage: Corruption, tmp_path: Path) -> None:
    """An npz with a benign oddity loads, every parameter of PaliGemma as it was written."""
    path = tmp_path / "pt_224.npz"
    written = damage.apply(damage.spec(), path, layout="paligemma_npz")
    params = subject.load(damage.spec(), from_paligemma(path), seed=0)["params"]
    used = params.keys() & written.keys()
    assert_same_bits({path: params[path] for path in used}, {path: written[path] for path in used})
