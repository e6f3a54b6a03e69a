"""Folding LoRA checkpoints into base checkpoints: unadapted weights keep their bits, folded ones are rounded once."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fixtures import content
from fixtures.specs import ModelSpec, without_lora
from fixtures.writers.openpi import build, read_params, write
from suite.contracts.checkpoints import Checkpoint
from suite.contracts.lora_sites import lora_b_paths, weight_of
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_close, assert_same_bits, refused
from suite.writing.cases import digests, from_checkpoint, is_adapter

NEEDS = ("fold_checkpoint", "openpi", "lora")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# Scales the fixtures' adapters down so far that bfloat16 weights lose most of the delta to rounding.
SMALL = 1e-3
LOSS_RTOL = 1e-2


@contract(source="openpi weight_loaders.py:90; docs/bugs.md#c1, #g1", needs=(*NEEDS, "load"))
def test_loads_without_lora(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A folded checkpoint fills a model without LoRA, bit for bit."""
    checkpoint, base = lora_checkpoint, without_lora(lora_checkpoint.spec)
    subject.fold_checkpoint(checkpoint.spec, checkpoint.path, str(tmp_path / "out"), None)
    loaded = subject.load(base, from_checkpoint(tmp_path / "out" / "params"), seed=0)["params"]
    assert_same_bits(read_params(tmp_path / "out" / "params"), loaded)


@contract(source="openpi weight_loaders.py:90; docs/bugs.md#g1", needs=NEEDS)
def test_keeps_what_has_no_adapter(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """In a folded checkpoint, weights that had no adapter keep their bits."""
    checkpoint = lora_checkpoint
    subject.fold_checkpoint(checkpoint.spec, checkpoint.path, str(tmp_path / "out"), None)
    folded, adapted = read_params(tmp_path / "out" / "params"), set(map(weight_of, lora_b_paths(checkpoint.params)))
    kept = {path: x for path, x in checkpoint.params.items() if path not in adapted and not is_adapter(path)}
    assert_same_bits({path: folded[path] for path in kept if path in folded}, kept)


@contract(source="openpi PR #960; docs/bugs.md#g15", needs=NEEDS)
def test_is_rounded_once(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Folding float32 to bfloat16 gives the float32 fold, rounded once at the end, for every parameter."""
    for name, dtype in (("wide", None), ("narrow", "bfloat16")):
        subject.fold_checkpoint(lora_checkpoint.spec, lora_checkpoint.path, str(tmp_path / name), dtype)
    wide, narrow = (read_params(tmp_path / name / "params") for name in ("wide", "narrow"))
    assert_same_bits(narrow, {path: x.astype(BFLOAT16) for path, x in wide.items()})


@contract(source="openpi PR #960; docs/bugs.md#g15", needs=NEEDS)
def test_of_bfloat16_is_formed_in_float32(subject: Subject, lora_spec: ModelSpec, tmp_path: Path) -> None:
    """A bfloat16 checkpoint is folded like its values in float32; with float32 output it keeps all of the delta."""
    params = build(lora_spec, tmp_path / "narrow", dtype="bfloat16")
    write({path: x.astype(np.float32) for path, x in params.items()}, tmp_path / "wide")
    for name, dtype in (("narrow", None), ("wide", "bfloat16"), ("narrow", "float32"), ("wide", None)):
        subject.fold_checkpoint(lora_spec, str(tmp_path / name), str(tmp_path / f"{name}-{dtype}"), dtype)
    for one, other in (("narrow-None", "wide-bfloat16"), ("narrow-float32", "wide-None")):
        assert_same_bits(read_params(tmp_path / one / "params"), read_params(tmp_path / other / "params"))


@contract(source="openpi PR #960; docs/bugs.md#g15", needs=NEEDS)
def test_tells_what_rounding_took(subject: Subject, lora_spec: ModelSpec, tmp_path: Path) -> None:
    """For every site, folding reports the share of a small delta that is lost in bfloat16, and no loss in float32."""
    params = content.params(lora_spec)
    params |= {path: SMALL * params[path] for path in lora_b_paths(params)}
    write({path: x if is_adapter(path) else x.astype(BFLOAT16) for path, x in params.items()}, tmp_path / "params")
    before = {path: x.astype(np.float32) for path, x in read_params(tmp_path / "params").items()}
    losses = {
        dtype: subject.fold_checkpoint(lora_spec, str(tmp_path / "params"), str(tmp_path / dtype), dtype)
        for dtype in ("bfloat16", "float32")
    }
    folded, exact = (read_params(tmp_path / dtype / "params") for dtype in ("bfloat16", "float32"))
    for path in map(weight_of, lora_b_paths(params)):
        lost = np.linalg.norm(folded[path].astype(np.float32) - exact[path]) / np.linalg.norm(
            exact[path] - before[path]
        )
        assert lost > 0.5, path
        assert_close(losses["bfloat16"][path], lost, rtol=LOSS_RTOL, name=path)
        assert losses["float32"][path] < 1e-3, path


@pytest.fixture
def unfit(lora_spec: ModelSpec, tmp_path: Path, fault: str) -> str:
    """Write adapters: one matrix is missing, or one or all have another rank; return the path of the first of them."""
    params = content.params(lora_spec)
    adapters = list(filter(is_adapter, sorted(params)))
    if fault == "half":
        del params[adapters[0]]
    else:
        for path in adapters if fault == "all_ranks" else adapters[:2]:
            params[path] = np.delete(params[path], 0, -1 if "lora_a" in path else -2)
    write(params, tmp_path / "params")
    return adapters[0]


unfit_adapters = pytest.mark.parametrize("fault", ["half", "rank", "all_ranks"])


@contract(source="docs/bugs.md#e9, #c4, #p8", needs=NEEDS)
@unfit_adapters
def test_what_cannot_be_folded_is_named(
    subject: Subject, lora_spec: ModelSpec, tmp_path: Path, fault: str, unfit: str
) -> None:
    """An adapter with one matrix missing, or with another rank than the config's, is refused by name; so is the first
    where all have another rank."""
    with refused(str(tmp_path / "params"), unfit):
        subject.fold_checkpoint(lora_spec, str(tmp_path / "params"), str(tmp_path / "out"), None)


@contract(source="docs/bugs.md#e9, #c4, #p8", needs=NEEDS)
@unfit_adapters
def test_what_cannot_be_folded_leaves_nothing(
    subject: Subject, lora_spec: ModelSpec, tmp_path: Path, fault: str, unfit: str
) -> None:
    """If a checkpoint cannot be folded, nothing is written."""
    before = digests(tmp_path)
    with refused():
        subject.fold_checkpoint(lora_spec, str(tmp_path / "params"), str(tmp_path / "out"), None)
    assert digests(tmp_path) == before
