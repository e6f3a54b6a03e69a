"""What a subject saves, it serves: with every number, and not after the files were damaged."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fixtures import content
from fixtures.params import Params
from fixtures.specs import ModelSpec, tiny, tiny_table, with_lora
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, refused
from suite.writing.cases import is_adapter
from suite.writing.sizes import heads_as_wide_as_the_model

NEEDS = ("save", "load_for_inference")
LAYERS = "PaliGemma/llm/layers/"
WEIGHT = f"{LAYERS}mlp/linear"
NORM = f"{LAYERS}pre_attention_norm/scale"


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    """A model, and the part of it that a subject has.

    Attributes:
      model: its spec.
      needs: the capabilities that the case needs.
      holds: whether the subject has a parameter.
    """

    model: ModelSpec
    needs: tuple[str, ...]
    holds: Callable[[str], bool]

    def params(self, dtype: str = "float32") -> Params:
        """Return the part's parameters. After attention, only the first head has a lora_b, as PEFT has one for all."""
        params = {path: x for path, x in content.params(self.model, dtype=dtype).items() if self.holds(path)}
        for path in (path for path in params if "attn_vec_einsum" in path and path.endswith("lora_b")):
            params[path][:, 1:] = 0
        return params


def whole(spec: ModelSpec) -> Kept:
    """Return a whole pi0 or pi05, which computes losses."""
    adapted = spec["paligemma"]["lora"] or spec["action_expert"]["lora"]
    return Kept(spec, ("loss", spec["family"], *(["lora"] if adapted else [])), lambda _: True)


def paligemma(spec: ModelSpec) -> Kept:
    """Return the image encoder and expert 0."""
    return Kept(spec, ("paligemma_alone",), lambda path: path.startswith("PaliGemma/img/") or in_language_model(path))


def gemma(spec: ModelSpec) -> Kept:
    """Return expert 0."""
    return Kept(spec, ("gemma_alone",), in_language_model)


def in_language_model(path: str) -> bool:
    return path.startswith("PaliGemma/llm/") and "_1/" not in path


PARTS = {"pi0": whole(tiny()), "paligemma": paligemma(tiny()), "gemma": gemma(tiny())}
SHAPES = tiny_table() | {"heads_as_wide_as_the_model": heads_as_wide_as_the_model()}
LORA = {placement: tiny(lora=placement) for placement in ("both", "paligemma", "action_expert")}
ONE_HEAD = with_lora(tiny())
for expert in (ONE_HEAD["paligemma"], ONE_HEAD["action_expert"]):
    expert["num_heads"] = 1
CASES = (
    {name: whole(spec) for name, spec in SHAPES.items()}
    | {f"lora_on_{name}": whole(spec) for name, spec in LORA.items()}
    | {"lora_with_one_head": whole(ONE_HEAD)}
    | {f"paligemma_{name}": paligemma(spec) for name, spec in SHAPES.items() if name != "pi05"}
    | {f"gemma_{name}": gemma(spec) for name, spec in SHAPES.items() if name != "pi05"}
)
every_part = pytest.mark.parametrize("kept", PARTS.values(), ids=PARTS)


def in_float32(params: Params) -> Params:
    return {path: array.astype(np.float32) for path, array in params.items()}


def largest_weights(folder: Path) -> Path:
    """Return the largest file of a saved model."""
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


@contract(source="docs/bugs.md#rule-4, #p1, #g9; every save round-trips", needs=NEEDS)
@pytest.mark.parametrize("kept", CASES.values(), ids=CASES)
def test_as_it_was_saved(subject: Subject, kept: Kept, tmp_path: Path) -> None:
    """A saved model is served bit for bit, whatever the number of layers and heads, adapters included."""
    subject.save(kept.model, kept.params(), str(tmp_path / "saved"))
    assert_same_bits(subject.load_for_inference(kept.model, str(tmp_path / "saved")), kept.params())


@contract(source="docs/bugs.md#rule-4, #p1, #c9; fine-tuning goes on from a save", needs=("save", "load", "saved"))
@pytest.mark.parametrize("kept", CASES.values(), ids=CASES)
def test_trains_on_from_what_it_saved(subject: Subject, kept: Kept, tmp_path: Path) -> None:
    """A saved model loads for training with every parameter that was saved, bit for bit."""
    subject.save(kept.model, kept.params(), str(tmp_path / "saved"))
    loaded = subject.load(kept.model, {"kind": "saved", "path": str(tmp_path / "saved")}, seed=3)["params"]
    assert_same_bits({path: loaded[path] for path in kept.params()}, kept.params())


@contract(source="IEEE 754: widening is exact; docs/bugs.md#c6, #c7", needs=NEEDS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@every_part
def test_half_precision_keeps_its_numbers(subject: Subject, kept: Kept, tmp_path: Path, dtype: str) -> None:
    """A model that is saved in half precision is served with the same numbers, in that precision or a wider one."""
    params = kept.params(dtype)
    subject.save(kept.model, params, str(tmp_path / "saved"))
    served = subject.load_for_inference(kept.model, str(tmp_path / "saved"))
    assert_same_bits(in_float32(served), in_float32(params))


@contract(source="openpi gemma_pytorch.py:62-85: norms stay float32 next to bfloat16", needs=NEEDS)
@every_part
def test_mixed_precision_keeps_its_numbers(subject: Subject, kept: Kept, tmp_path: Path) -> None:
    """A float32 parameter among bfloat16 ones is served with its exact numbers."""
    params = kept.params("bfloat16")
    params[NORM] = params[NORM].astype(np.float32) + np.float32(2**-20)
    subject.save(kept.model, params, str(tmp_path / "saved"))
    served = subject.load_for_inference(kept.model, str(tmp_path / "saved"))
    assert_same_bits(in_float32(served), in_float32(params))


@contract(source="IEEE 754; docs/bugs.md#c6, #c18", needs=NEEDS)
@every_part
def test_unusual_numbers_are_kept(subject: Subject, kept: Kept, tmp_path: Path) -> None:
    """Negative zero, subnormal numbers, infinity and NaN are served as they were saved."""
    params = kept.params()
    params[WEIGHT].flat[:5] = (-0.0, 1e-40, np.inf, -np.inf, np.nan)
    params[NORM][...] = 0
    subject.save(kept.model, params, str(tmp_path / "saved"))
    assert_same_bits(subject.load_for_inference(kept.model, str(tmp_path / "saved")), params)


@contract(source="a training step overwrites the arrays that were saved; docs/bugs.md#h6", needs=NEEDS)
@every_part
def test_later_changes_are_not_served(subject: Subject, kept: Kept, tmp_path: Path) -> None:
    """A save changes none of the arrays, and no later change of them is served."""
    params = kept.params()
    subject.save(kept.model, params, str(tmp_path / "saved"))
    assert_same_bits(params, kept.params())
    for array in params.values():
        array[...] = 0
    assert_same_bits(subject.load_for_inference(kept.model, str(tmp_path / "saved")), kept.params())


@contract(source="docs/bugs.md#e4: what is left of an older save is served", needs=NEEDS)
@every_part
def test_a_second_save_is_refused_or_served(subject: Subject, kept: Kept, tmp_path: Path) -> None:
    """A second save to the same path is refused or replaces all of the first one: never is a mixture served."""
    path, second = str(tmp_path / "saved"), {name: array + 1 for name, array in kept.params().items()}
    subject.save(kept.model, kept.params(), path)
    try:
        subject.save(kept.model, second, path)
        expected = second
    except Exception:  # noqa: BLE001 - any error counts as a refusal
        expected = kept.params()
    assert_same_bits(subject.load_for_inference(kept.model, path), expected)


@contract(source="docs/bugs.md#c18; lerobot #4577", needs=NEEDS)
@pytest.mark.parametrize("damage", ["cut_in_half", "emptied", "deleted"])
@every_part
def test_damaged_weights_are_refused(subject: Subject, kept: Kept, tmp_path: Path, damage: str) -> None:
    """A saved model whose largest file is cut, empty or gone is not served: no fresh weights stand in for its own."""
    subject.save(kept.model, kept.params(), str(tmp_path / "saved"))
    weights = largest_weights(tmp_path / "saved")
    if damage == "deleted":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2] if damage == "cut_in_half" else b"")
    with refused():
        subject.load_for_inference(kept.model, str(tmp_path / "saved"))


@contract(source="arXiv:2106.09685; docs/bugs.md#e9", needs=(*NEEDS, "loss", "lora", "float32"))
def test_adapters_are_served_with_their_scale(subject: Subject, batch: Params, tmp_path: Path) -> None:
    """A saved LoRA model, served, has the losses that it had: rank, alpha and rslora come along."""
    params = content.params(ONE_HEAD)
    subject.save(ONE_HEAD, params, str(tmp_path / "saved"))
    served = subject.load_for_inference(ONE_HEAD, str(tmp_path / "saved"))
    assert any(is_adapter(path) for path in served)
    losses = [subject.loss(ONE_HEAD, p, batch, batch["noise"], batch["time"], seed=0) for p in (params, served)]
    assert_same_bits({"loss": np.asarray(losses[1])}, {"loss": np.asarray(losses[0])})
