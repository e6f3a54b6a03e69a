"""openpi's PyTorch layout, in both directions: converted files have the checkpoint's bits, and so does a read back."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from fixtures.params import Params
from fixtures.specs import TINY_QUERY_HEADS, ModelSpec, tiny, tiny_table
from fixtures.writers import openpi, openpi_pytorch, safetensors_file
from suite.contracts.checkpoints import Checkpoint, write_checkpoint
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_same_bits, assert_same_paths, refused
from suite.writing.cases import BOTH_FAMILIES, digests

CONVERT, LOAD = ("convert",), ("load", "openpi_pytorch")
LAYOUT = "openpi_pytorch"


def heads_as_wide_as_the_model() -> ModelSpec:
    """Return a spec with heads x head_dim == width, as at real size. In the other specs they differ, to catch
    converters that rely on it."""
    spec = tiny()
    spec["paligemma"]["width"] = TINY_QUERY_HEADS * spec["paligemma"]["head_dim"]
    return spec


EVERY_SIZE = tiny_table() | {"heads_as_wide_as_the_model": heads_as_wide_as_the_model()}
FAMILIES = {"pi0": tiny("pi0"), "pi05": tiny("pi05")}


def from_pytorch(path: Path) -> dict[str, str]:
    """Return a load source for openpi's PyTorch layout."""
    return {"kind": "openpi_pytorch", "path": str(path)}


def tensors_in(folder: Path) -> Params:
    return safetensors_file.read(folder / openpi_pytorch.WEIGHTS)


@contract(
    source="openpi convert_jax_model_to_pytorch.py:42-395, models_pytorch/; docs/bugs.md#g1, #g5, #g9, #g10, #g12",
    needs=CONVERT,
)
@pytest.mark.parametrize("case", EVERY_SIZE)
def test_every_tensor_has_the_bits_of_the_checkpoint(subject: Subject, tmp_path: Path, case: str) -> None:
    """Each converted tensor holds its part of the checkpoint bit for bit, for any number of heads, key/value heads and
    layers."""
    checkpoint = write_checkpoint(EVERY_SIZE[case], tmp_path / "params")
    subject.convert(checkpoint.spec, checkpoint.path, LAYOUT, str(tmp_path / "out"))
    expected, written = openpi_pytorch.tensors(checkpoint.params), tensors_in(tmp_path / "out")
    assert_same_bits({name: written[name] for name in expected if name in written}, expected)


@contract(
    source="openpi models/model.py:246, safetensors torch.py load_model; docs/bugs.md#g1, #g7, #p10", needs=CONVERT
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_strict_reader_finds_exactly_its_names(subject: Subject, tmp_path: Path, family: str) -> None:
    """The file has exactly the names that openpi's model expects; of the tied table, only ``embed_tokens``."""
    checkpoint = write_checkpoint(FAMILIES[family], tmp_path / "params")
    subject.convert(checkpoint.spec, checkpoint.path, LAYOUT, str(tmp_path / "out"))
    expected = openpi_pytorch.tensors(checkpoint.params).keys() | {openpi_pytorch.EXPERT_HEAD}
    written = tensors_in(tmp_path / "out")
    assert_same_paths(written, expected)
    head = (checkpoint.spec["vocab_size"], checkpoint.spec["action_expert"]["width"])
    assert written[openpi_pytorch.EXPERT_HEAD].shape == head


@contract(source="openpi convert_jax_model_to_pytorch.py:514-527; docs/bugs.md#g5, #g6", needs=CONVERT)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_stored_dtype_is_kept(subject: Subject, base_spec: ModelSpec, tmp_path: Path, dtype: str) -> None:
    """A checkpoint in half precision is converted in its stored dtype, bit for bit."""
    params = openpi.build(base_spec, tmp_path / "params", dtype=dtype)
    subject.convert(base_spec, str(tmp_path / "params"), LAYOUT, str(tmp_path / "out"))
    expected, written = openpi_pytorch.tensors(params), tensors_in(tmp_path / "out")
    assert_same_bits({name: written[name] for name in expected}, expected)


@contract(source="openpi convert_jax_model_to_pytorch.py:384; docs/bugs.md#g8", needs=CONVERT)
def test_conversion_repeats_byte_for_byte(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Two conversions of one checkpoint write the same bytes and do not change the checkpoint's own files."""
    before = digests(base_checkpoint.path)
    for name in ("first", "second"):
        subject.convert(base_checkpoint.spec, base_checkpoint.path, LAYOUT, str(tmp_path / name))
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    assert openpi_pytorch.WEIGHTS in digests(tmp_path / "first")
    assert digests(base_checkpoint.path) == before


@contract(source="docs/bugs.md#g9, #p10; every layout round-trips", needs=("convert", *LOAD))
@pytest.mark.parametrize(
    "case", ["two_kv_heads", "as_many_kv_heads_as_query_heads", "heads_as_wide_as_the_model", "eleven_layers", "pi05"]
)
def test_round_trip_is_exact(subject: Subject, tmp_path: Path, case: str) -> None:
    """Converting a checkpoint and reading it back gives the checkpoint, bit for bit."""
    checkpoint = write_checkpoint(EVERY_SIZE[case], tmp_path / "params")
    subject.convert(checkpoint.spec, checkpoint.path, LAYOUT, str(tmp_path / "out"))
    assert_same_bits(subject.load(checkpoint.spec, from_pytorch(tmp_path / "out"), seed=0)["params"], checkpoint.params)


@contract(source="torch.compile, DistributedDataParallel, lerobot modeling_pi0.py:845", needs=LOAD)
@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model.", "model._orig_mod."])
def test_wrappers_prefixes_are_recognised(subject: Subject, base_spec: ModelSpec, tmp_path: Path, prefix: str) -> None:
    """Names with a prefix added by a wrapper load like plain ones."""
    written = openpi_pytorch.build(base_spec, tmp_path / "torch", prefix=prefix)
    assert_same_bits(subject.load(base_spec, from_pytorch(tmp_path / "torch"), seed=0)["params"], written)


@contract(source="openpi #958, #840; docs/bugs.md#g1", needs=(*CONVERT, "lora"))
def test_adapters_are_refused_with_the_way_out(subject: Subject, lora_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A LoRA checkpoint is refused, since the layout has no adapters: the error says to fold; nothing is written."""
    with refused("PaliGemma/llm/layers/attn/", "lora_a", "fold"):
        subject.convert(lora_checkpoint.spec, lora_checkpoint.path, LAYOUT, str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


@contract(source="openpi #396, #958; docs/bugs.md#g1, #g15", needs=(*CONVERT, *LOAD, "save", "fold", "lora"))
def test_folded_checkpoint_converts(
    subject: Subject, lora_checkpoint: Checkpoint, base_spec: ModelSpec, tmp_path: Path
) -> None:
    """A LoRA checkpoint that was folded and saved can be converted, and reads back as the folded parameters."""
    folded = subject.fold(lora_checkpoint.spec, lora_checkpoint.params)
    subject.save(base_spec, folded, str(tmp_path / "params"))
    subject.convert(lora_checkpoint.spec, str(tmp_path / "params"), LAYOUT, str(tmp_path / "out"))
    assert_same_bits(subject.load(base_spec, from_pytorch(tmp_path / "out"), seed=0)["params"], folded)
    assert_same_bits(tensors_in(tmp_path / "out"), tensors_in(tmp_path / "out") | openpi_pytorch.tensors(folded))


@contract(source="openpi convert_jax_model_to_pytorch.py:293; docs/bugs.md#g3", needs=CONVERT)
@pytest.mark.parametrize(("family", "folder"), [("pi0", "pi05_droid"), ("pi05", "pi0_base")])
def test_family_is_not_read_from_the_path(subject: Subject, tmp_path: Path, family: str, folder: str) -> None:
    """A checkpoint in a folder named after the other family is converted as its own family."""
    checkpoint = write_checkpoint(FAMILIES[family], tmp_path / folder / "params")
    subject.convert(checkpoint.spec, checkpoint.path, LAYOUT, str(tmp_path / "out"))
    expected = openpi_pytorch.tensors(checkpoint.params).keys() | {openpi_pytorch.EXPERT_HEAD}
    assert_same_paths(tensors_in(tmp_path / "out"), expected)


@contract(source="docs/bugs.md#c10, #g3, #g14", needs=(*CONVERT, "pi05"))
def test_other_family_is_not_converted(subject: Subject, base_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A pi0 checkpoint is not converted for a pi05 model: the error says which family is which, and nothing is
    written."""
    with refused(*BOTH_FAMILIES):
        subject.convert(FAMILIES["pi05"], base_checkpoint.path, LAYOUT, str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


Change: TypeAlias = Callable[[Params], Params]
KEY = "paligemma_with_expert.gemma_expert.model.layers.1.self_attn.k_proj.weight"
LAST = "paligemma_with_expert.paligemma.model.language_model.layers.2.mlp.up_proj.weight"
# A change that makes a file unfit, and all the names that the error has to list.
MISFITS: dict[str, tuple[Change, tuple[str, ...]]] = {
    "two_missing": (lambda t: {n: x for n, x in t.items() if n not in (KEY, LAST)}, (KEY, LAST)),
    "a_layer_more": (lambda t: t | {KEY.replace(".1.", ".3."): t[KEY]}, (KEY.replace(".1.", ".3."),)),
    "hugging_face": (lambda t: {n.removeprefix("paligemma_with_expert."): x for n, x in t.items()}, ()),
    "one_name_twice": (lambda t: t | {f"module.{KEY}": t[KEY]}, (KEY, f"module.{KEY}")),
}


@contract(source="docs/bugs.md#c3, #c5, #c6, #c11, #g13, #p4", needs=LOAD)
@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_refused(subject: Subject, base_spec: ModelSpec, tmp_path: Path, case: str) -> None:
    """A file with too few or too many tensors, or with other names, is refused, and the error lists each of them."""
    change, names = MISFITS[case]
    tensors = openpi_pytorch.saved(openpi_pytorch.build(base_spec, tmp_path / "torch"))
    openpi_pytorch.write(change(tensors), tmp_path / "torch")
    before = digests(tmp_path)
    with refused(str(tmp_path / "torch"), *names):
        subject.load(base_spec, from_pytorch(tmp_path / "torch"), seed=0)
    assert digests(tmp_path) == before
