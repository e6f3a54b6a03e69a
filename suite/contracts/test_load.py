"""Loading parameters into a model: every leaf of model and checkpoint is accounted for, and a misfit is refused."""

import copy
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from fixtures import content
from fixtures.specs import TINY_PALIGEMMA_LORA, ModelSpec, tiny, with_lora
from fixtures.writers import openpi, paligemma_npz
from suite.contracts.checkpoints import Checkpoint, write_checkpoint
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_different, assert_same_bits, assert_same_paths, refused
from suite.writing.cases import digests, from_checkpoint, from_paligemma, is_adapter

BASE_WEIGHT = "PaliGemma/llm/layers/mlp/linear"


@contract(
    source="openpi #283, config pi0_libero_low_mem_finetune on pi0_base",
    needs=("load", "openpi", "lora", "param_spec"),
)
def test_base_into_lora_adds_only_adapters(subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec) -> None:
    """A base checkpoint fills a LoRA model; only the adapters are fresh, and all of them exist."""
    params = subject.load(lora_spec, from_checkpoint(base_checkpoint.path), seed=0)["params"]
    assert_same_bits({path: x for path, x in params.items() if not is_adapter(path)}, base_checkpoint.params)
    assert_same_paths(params, subject.param_spec(lora_spec))


@contract(source="openpi weight_loaders.py:33", needs=("load", "openpi", "save", "lora", "load_for_inference"))
def test_saved_lora_loads_into_lora(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A saved LoRA checkpoint loads into its LoRA model, adapters bit for bit, for training and for serving."""
    path = str(tmp_path / "params")
    subject.save(lora_checkpoint.spec, lora_checkpoint.params, path)
    loaded = subject.load(lora_checkpoint.spec, from_checkpoint(path), seed=0)
    assert_same_bits(loaded["params"], lora_checkpoint.params)
    assert_same_bits(subject.load_for_inference(lora_checkpoint.spec, path), lora_checkpoint.params)


@contract(source="docs/bugs.md#rule-5, #c1, #c5", needs=("load", "openpi", "load_report", "lora", "param_spec"))
def test_reports_every_leaf(
    subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec, tmp_path: Path
) -> None:
    """The report counts each leaf of model and checkpoint once: loaded, cast, initialized or dropped."""
    # An unused parameter that is not an adapter, although its name contains "lora".
    stored = base_checkpoint.params | {"explorations/kernel": np.ones(2, np.float32)}
    stored[BASE_WEIGHT] = stored[BASE_WEIGHT].astype(np.float16)
    openpi.write(stored, tmp_path / "params")
    report = subject.load(lora_spec, from_checkpoint(tmp_path / "params"), seed=0)["report"]
    assert_same_paths(report, subject.param_spec(lora_spec).keys() | stored.keys())
    assert Counter(report.values()) == {
        "loaded": len(stored) - 2,
        "cast": 1,
        "dropped": 1,
        "initialized": 20,
    }
    assert (report[BASE_WEIGHT], report["explorations/kernel"]) == ("cast", "dropped")


@contract(source="lerobot #4577; docs/bugs.md#p1, #rule-4", needs=("load", "openpi", "load_report", "lora"))
def test_what_claims_to_be_loaded_is(subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec) -> None:
    """Two loads with different seeds agree on every leaf that is reported as loaded, and differ in fresh lora_a."""
    first, second = (subject.load(lora_spec, from_checkpoint(base_checkpoint.path), seed) for seed in (0, 1))
    loaded = [path for path, status in first["report"].items() if status == "loaded"]
    assert_same_bits({p: first["params"][p] for p in loaded}, {p: second["params"][p] for p in loaded})
    for path in (path for path in first["params"] if path.endswith("lora_a")):
        assert_different(first["params"][path], second["params"][path])


@contract(source="openpi #283; docs/bugs.md#c9", needs=("load_for_inference", "openpi", "lora"))
def test_base_for_lora_is_refused_with_the_way_out(
    subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec
) -> None:
    """Serving a base checkpoint with a LoRA config is refused; the error names a missing adapter and what to call."""
    with refused("PaliGemma/llm/layers/attn/q_einsum/lora_a", "initialize_lora_parameters"):
        subject.load_for_inference(lora_spec, base_checkpoint.path)


@contract(
    source="docs/bugs.md#c1, #c2; openpi weight_loaders.py:90, model.py:233",
    needs=("load", "openpi", "load_for_inference", "lora"),
)
def test_unused_adapters_are_refused(subject: Subject, lora_checkpoint: Checkpoint, base_spec: ModelSpec) -> None:
    """A base model refuses a LoRA checkpoint, for training and for serving: its fine-tuning would be lost."""
    with refused("PaliGemma/llm/layers/attn/q_einsum/lora_a"):
        subject.load(base_spec, from_checkpoint(lora_checkpoint.path), seed=0)
    with refused("PaliGemma/llm/layers/attn/q_einsum/lora_a"):
        subject.load_for_inference(base_spec, lora_checkpoint.path)


@contract(source="docs/bugs.md#c10; openpi #268, #672", needs=("load", "openpi"))
def test_pi0_fast_is_named(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """A checkpoint of PaliGemma only, like pi0-FAST's, is refused for a pi0, and the error says what it is."""
    openpi.write(paligemma_npz.contents(base_spec), tmp_path / "params")
    with refused("FAST", "PaliGemma", "pi0"):
        subject.load(base_spec, from_checkpoint(tmp_path / "params"), seed=0)


@contract(source="docs/bugs.md#c3, #p4; lucidrains/pi-zero-pytorch #1", needs=("load", "openpi", "lora"))
def test_nothing_matched_is_refused(subject: Subject, lora_spec: ModelSpec, tmp_path: Path) -> None:
    """A checkpoint that shares no parameter with the model is refused, and the error shows some of its names."""
    openpi.write({f"net/block{n}/w": np.ones(3, np.float32) for n in range(3)}, tmp_path / "params")
    with refused(str(tmp_path / "params"), "net/block0/w"):
        subject.load(lora_spec, from_checkpoint(tmp_path / "params"), seed=0)


@contract(source="docs/bugs.md#c3, #p4", needs=("load", "paligemma_npz"))
def test_nothing_matched_in_npz_is_refused(subject: Subject, base_spec: ModelSpec, tmp_path: Path) -> None:
    """A release whose names all have an extra prefix is refused, even though a model can start from random weights."""
    contents = {f"target/{path}": array for path, array in paligemma_npz.contents(base_spec).items()}
    paligemma_npz.write(contents, tmp_path / "pt_224.npz")
    with refused(str(tmp_path / "pt_224.npz"), "target/"):
        subject.load(base_spec, from_paligemma(tmp_path / "pt_224.npz"), seed=0)


@contract(source="docs/bugs.md#c12, #h2; openpi PR #815", needs=("load", "openpi", "load_report", "param_spec"))
def test_training_from_nothing_is_announced(subject: Subject, base_spec: ModelSpec) -> None:
    """A load without a checkpoint warns that every parameter is fresh, and its report says so for each."""
    loaded = subject.load(base_spec, {"kind": "nothing"}, seed=0)
    assert [text for text in loaded["warnings"] if "fresh" in text or "random" in text or "initiali" in text]
    assert loaded["report"] == dict.fromkeys(subject.param_spec(base_spec), "initialized")


@contract(source="docs/bugs.md#p7, #a15; lerobot PR #2996", needs=("load", "openpi", "lora"))
def test_same_seed_loads_the_same(subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec) -> None:
    """Two loads with the same seed agree on every bit, even of fresh parameters: none is uninitialized memory."""
    first, second = (subject.load(lora_spec, from_checkpoint(base_checkpoint.path), 3)["params"] for _ in range(2))
    assert_same_bits(first, second)
    assert [path for path, array in first.items() if not np.isfinite(array).all()] == []


@contract(source="docs/bugs.md#p9, #h6; numpy.shares_memory", needs=("load", "openpi"))
def test_loads_are_independent(subject: Subject, base_checkpoint: Checkpoint) -> None:
    """Two loads share no memory, and a load changes neither the model's spec nor a file of the checkpoint."""
    spec, before = copy.deepcopy(base_checkpoint.spec), digests(base_checkpoint.path)
    first, second = (subject.load(spec, from_checkpoint(base_checkpoint.path), 0)["params"] for _ in range(2))
    assert not [path for path in first if np.shares_memory(first[path], second[path])]
    assert spec == base_checkpoint.spec
    assert digests(base_checkpoint.path) == before


@contract(source="docs/bugs.md#c6", needs=("load", "openpi", "load_report"))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_not_finite_is_reported(
    subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path, dtype: str
) -> None:
    """NaN and infinity load unchanged, and the report counts them for each parameter that contains any."""
    stored = {path: array.astype(content.DTYPES[dtype]) for path, array in base_checkpoint.params.items()}
    stored[BASE_WEIGHT].flat[[0, 7, 400]] = (np.nan, np.inf, -np.inf)
    stored["action_out_proj/bias"].flat[-1] = np.nan
    openpi.write(stored, tmp_path / "params")
    loaded = subject.load(base_checkpoint.spec, from_checkpoint(tmp_path / "params"), seed=0)
    assert loaded["nonfinite"] == {BASE_WEIGHT: 3, "action_out_proj/bias": 1}
    assert np.isposinf(loaded["params"][BASE_WEIGHT].flat[7])
    clean = subject.load(base_checkpoint.spec, from_checkpoint(base_checkpoint.path), seed=0)
    assert not clean["nonfinite"]


@contract(source="docs/bugs.md#e9", needs=("load", "openpi", "load_for_inference", "save", "lora"))
@pytest.mark.parametrize(("key", "value"), [("alpha", 11.0), ("rslora", True)])
def test_other_scale_than_saved_is_refused(
    subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path, key: str, value: Any
) -> None:
    """A config with another alpha or rslora than the saved adapters' refuses them: their effect would be scaled."""
    path, spec = str(tmp_path / "params"), cast("dict[str, Any]", copy.deepcopy(lora_checkpoint.spec))
    subject.save(spec, lora_checkpoint.params, path)
    spec["paligemma"]["lora"]["attn"][key] = value
    with refused(path, key, str(value)):
        subject.load(spec, from_checkpoint(path), seed=0)
    with refused(path, key, str(value)):
        subject.load_for_inference(spec, path)


def spec_of(name: str) -> ModelSpec:
    """Return the spec for a short name, which stands for its family, LoRA or depth."""
    if name in ("pi0", "pi05"):
        return tiny("pi05" if name == "pi05" else "pi0")
    if name == "deeper":
        return tiny(depth=4)
    if name == "lower_rank":
        attn, ffn = TINY_PALIGEMMA_LORA["attn"], TINY_PALIGEMMA_LORA["ffn"]
        return with_lora(tiny(), paligemma={"attn": attn and {**attn, "rank": 3}, "ffn": ffn})
    return tiny(lora={"lora": "both", "lora_0": "paligemma", "lora_1": "action_expert"}[name])  # type: ignore[arg-type]


@contract(
    source="docs/bugs.md#c9, #c2, #c11, #p8; openpi #283, model.py:233",
    needs=("load", "openpi", "load_for_inference", "lora", "pi05"),
)
@pytest.mark.parametrize(
    ("stored", "model", "verdict"),
    [
        ("pi0", "pi0", "loads"),
        ("lora_1", "lora_1", "loads"),
        ("lora_0", "pi0", "refused"),
        ("lora_0", "lora_1", "refused"),
        ("lora", "lora_0", "refused"),
        ("lower_rank", "lora", "refused"),
        ("deeper", "pi0", "refused"),
        ("pi0", "deeper", "refused"),
        ("pi0", "pi05", "refused"),
        ("pi05", "pi0", "refused"),
    ],
)
def test_training_and_serving_agree(subject: Subject, tmp_path: Path, stored: str, model: str, verdict: str) -> None:
    """A checkpoint that loads for training loads for serving, with the same values; what one refuses, both refuse."""
    checkpoint = write_checkpoint(spec_of(stored), tmp_path / "params")
    with nullcontext() if verdict == "loads" else refused(checkpoint.path):
        loaded = subject.load(spec_of(model), from_checkpoint(checkpoint.path), seed=0)["params"]
        assert_same_bits(loaded, checkpoint.params)
    with nullcontext() if verdict == "loads" else refused(checkpoint.path):
        assert_same_bits(subject.load_for_inference(spec_of(model), checkpoint.path), checkpoint.params)


@contract(source="docs/bugs.md#c5", needs=("load", "openpi", "lora"))
def test_only_adapters_may_be_missing(
    subject: Subject, base_checkpoint: Checkpoint, lora_spec: ModelSpec, tmp_path: Path
) -> None:
    """A LoRA model accepts a checkpoint without adapters, but not one that lacks anything else: the error names it."""
    stored = {path: array for path, array in base_checkpoint.params.items() if path != BASE_WEIGHT}
    openpi.write(stored, tmp_path / "params")
    with refused(BASE_WEIGHT):
        subject.load(lora_spec, from_checkpoint(tmp_path / "params"), seed=0)


@contract(source="docs/bugs.md#c11", needs=("load", "openpi"))
def test_wrong_shapes_are_listed_at_once(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Parameters with wrong shapes are refused, and the error lists all of them with both shapes."""
    shorter = {path: base_checkpoint.params[path][:-1] for path in ("action_in_proj/kernel", "action_out_proj/bias")}
    openpi.write(base_checkpoint.params | shorter, tmp_path / "params")
    with refused(*shorter, "[9, 36]", "[8, 36]"):
        subject.load(base_checkpoint.spec, from_checkpoint(tmp_path / "params"), seed=0)
