"""Checkpoints that do not fit, in every layout: they are refused, the error names what does not fit."""

import re

from suite.contracts import misfits
from suite.contracts.damages import NOT_SERVED
from suite.contracts.fitting import NOT_IN_SHARDS, NOT_TIED, TIED
from suite.session.registry import contract
from suite.writing.layouts import Case, every_layout
from suite.writing.loads import Loads
from suite.writing.refusals import assert_names, assert_rejected

NO_FAMILY = {
    "hugging_face": "a PaliGemma has no family",
    "paligemma_npz": "a PaliGemma has no family",
    "gemma_flax": "a Gemma has no family",
    "peft": "adapters of both families have the same shapes",
}
_WITHOUT_ADAPTERS = ("openpi_pytorch", "lerobot", "hugging_face", "paligemma_npz", "gemma_flax")
NO_RANKS = dict.fromkeys(_WITHOUT_ADAPTERS, "it holds no adapters")


@contract(source="docs/bugs.md#c11, #c10, #p8; openpi #551, #580, lucidrains/pi-zero-pytorch #1", needs=("load",))
@every_layout(misfits.other_models)
def test_another_model_is_refused(loads: Loads, case: Case) -> None:
    """A checkpoint of a model with another number of layers, heads, tokens, or another width is refused."""
    assert_rejected(loads(case))


@contract(source="docs/bugs.md#p8: rank 32 was resumed in a model of rank 16 by cutting", needs=("load",))
@every_layout(misfits.other_ranks, empty=NO_RANKS)
def test_another_rank_is_refused(loads: Loads, case: Case) -> None:
    """Adapters of another rank than the model's are refused."""
    assert_rejected(loads(case))


@contract(source="docs/bugs.md#c3, #c4, #c5; lerobot #4577, #1406", needs=("load",))
@every_layout(misfits.missing)
def test_missing_tensor_is_refused(loads: Loads, case: Case) -> None:
    """A checkpoint without one of the tensors that its layout holds is refused."""
    assert_rejected(loads(case))


@contract(source="docs/bugs.md#c3, #c11, #rule-5; lerobot #4577", needs=("load",))
@every_layout(misfits.missing)
def test_missing_tensor_is_named(loads: Loads, case: Case) -> None:
    """The error about a missing tensor names it, as the file would or by openpi's path."""
    assert_names(loads(case), misfits.mention_of(*misfits.site_of(case)))


@contract(source="docs/bugs.md#c3, #rule-5; a download that stopped", needs=("load",))
@every_layout(misfits.missing_shards, empty=NOT_IN_SHARDS)
def test_missing_shard_is_refused(loads: Loads, case: Case) -> None:
    """A checkpoint that lacks a shard is refused, also if the index does not name the shard."""
    assert_rejected(loads(case))


@contract(source="docs/bugs.md#c3, #p4; openpi weight_loaders.py:73, lucidrains/pi-zero-pytorch #1", needs=("load",))
@every_layout(misfits.renamed)
def test_nothing_matched_is_refused(loads: Loads, case: Case) -> None:
    """A checkpoint in which no tensor has its name is refused, although a model can start from random weights."""
    assert_rejected(loads(case))


@contract(source="docs/bugs.md#c3, #p4; lucidrains/pi-zero-pytorch #1", needs=("load",))
@every_layout(misfits.renamed)
def test_nothing_matched_is_named(loads: Loads, case: Case) -> None:
    """The error about a checkpoint in which no tensor has its name shows a name: one that it has, or one it lacks."""
    own = case.layout.tensors(case.written())
    names = [*case.tensors(own), *own, *case.written()]
    assert_names(loads(case), misfits.mention_of(*names))


@contract(source="docs/bugs.md#c11, #g9, #p8; openpi convert_jax_model_to_pytorch.py:208", needs=("load",))
@every_layout(misfits.of_another_shape)
def test_another_shape_is_refused(loads: Loads, case: Case) -> None:
    """A weight of another shape is refused, also where its numbers could be reshaped, cut or broadcast."""
    assert_rejected(loads(case))


@contract(source="docs/bugs.md#c11: shapes that do not fit have to be found in a file of hundreds", needs=("load",))
@every_layout(misfits.of_another_shape)
def test_another_shape_is_named(loads: Loads, case: Case) -> None:
    """The error about a weight of another shape names the weight, as the file does or by openpi's path."""
    weight = case.layout.weight
    assert_names(loads(case), misfits.mention_of(weight, case.layout.site(case.model, weight)))


@contract(source="docs/bugs.md#c11; openpi #551, #580", needs=("load",))
@every_layout(misfits.with_shapes, empty={"peft": "another shape is another rank, and named as that"})
def test_both_shapes_are_named(loads: Loads, case: Case) -> None:
    """The error about a weight of another shape says which shape is expected and which was found."""
    shapes = misfits.shapes_of_weight(case)
    assert_names(loads(case), *(re.compile(r"\D{1,3}".join(rf"\b{n}\b" for n in shape)) for shape in shapes))


@contract(source="openpi #268: the next misfit shows up in the next run; docs/bugs.md#c10, #c11", needs=("load",))
@every_layout(misfits.of_two_other_shapes)
def test_every_misfit_is_named(loads: Loads, case: Case) -> None:
    """The error about two weights of other shapes names both."""
    layout = case.layout
    both = [(path, layout.site(case.model, path)) for path in misfits.two_weights(layout)]
    assert_names(loads(case), *(misfits.mention_of(*names) for names in both))


@contract(source="docs/bugs.md#c6: codes without their scales were used as weights", needs=("load",))
@every_layout(misfits.of_another_kind)
def test_what_is_no_weight_is_refused(loads: Loads, case: Case) -> None:
    """Integers, masks, and finite numbers that float32 has not are refused as weights."""
    assert_rejected(loads(case))


@contract(source="docs/bugs.md#c10, #p2, #g3; openpi #648, #672", needs=("load",))
@every_layout(misfits.other_families, empty=NO_FAMILY)
def test_the_other_family_is_refused(loads: Loads, case: Case) -> None:
    """A checkpoint of a whole model is refused for a model of each other family."""
    assert_rejected(loads(case))


@contract(source="docs/bugs.md#c10, #p2; openpi #648, #672", needs=("load",))
@every_layout(misfits.other_families, empty=NO_FAMILY)
def test_the_other_family_is_named(loads: Loads, case: Case) -> None:
    """The error about a checkpoint of the other family says which family is which."""
    assert case.stored
    assert_names(loads(case), *(misfits.FAMILY_WORDS[spec["family"]] for spec in (case.stored, case.model)))


@contract(source="docs/bugs.md#c11; transformers modeling_gemma2.py, big_vision models/ppp/gemma.py", needs=("load",))
@every_layout(misfits.later_versions, empty=misfits.NO_LATER)
def test_a_later_version_is_refused(loads: Loads, case: Case) -> None:
    """A later version of Gemma, with more norms in each layer, is refused even if every shape fits."""
    assert_rejected(loads(case))


@contract(source="docs/bugs.md#c11; arXiv:2412.03555", needs=("load",))
@every_layout(misfits.later_versions, empty=misfits.NO_LATER)
def test_a_later_version_is_named(loads: Loads, case: Case) -> None:
    """The error about a later version of Gemma says which version it is."""
    assert_names(loads(case), case.id.removeprefix("of_").replace("_", " ").title())


@contract(source="docs/bugs.md#c1, #c2, #g1; openpi weight_loaders.py:90", needs=("load",))
@every_layout(misfits.adapters, empty=misfits.NO_ADAPTERS)
def test_adapters_for_a_model_without_are_refused(loads: Loads, case: Case) -> None:
    """An adapter beside the weights is refused for a model without adapters: its fine-tuning would be lost."""
    assert_rejected(loads(case))


@contract(source="docs/bugs.md#c1, #c2, #g1; openpi weight_loaders.py:90", needs=("load",))
@every_layout(misfits.adapters, empty=misfits.NO_ADAPTERS)
def test_adapters_for_a_model_without_are_named(loads: Loads, case: Case) -> None:
    """The error about an adapter for a model without adapters names one of its matrices."""
    assert_names(loads(case), re.compile("lora.a|lora.b", re.IGNORECASE))


@contract(source="docs/bugs.md#c9, #c2; openpi model.py:233", needs=("load",))
@every_layout(misfits.adapters_elsewhere, empty=misfits.NO_PLACE)
def test_adapters_elsewhere_are_refused(loads: Loads, case: Case) -> None:
    """Adapters of an expert that has none in the model are refused."""
    assert_rejected(loads(case))


@contract(source="docs/bugs.md#c9, #c2, #c11, #p8; openpi #283, model.py:233", needs=("load_for_inference",))
@every_layout(misfits.served, empty=NOT_SERVED)
def test_is_not_served(loads: Loads, case: Case) -> None:
    """What does not fit is refused for serving as it is for training."""
    assert_rejected(loads.serve(case))


@contract(source="docs/bugs.md#c3, #c9", needs=("load_for_inference",))
@every_layout(misfits.served_of_each_kind, empty=NOT_SERVED)
def test_the_served_file_is_named(loads: Loads, case: Case) -> None:
    """The error about a checkpoint that does not fit the model to serve names its folder."""
    outcome = loads.serve(case)
    assert_names(outcome, str(outcome.path))


@contract(source="transformers 5.23 keeps embed_tokens and says nothing; docs/bugs.md#g7", needs=("load",))
@every_layout(misfits.conflicting, empty=NOT_TIED)
def test_conflicting_tied_tables_are_refused(loads: Loads, case: Case) -> None:
    """A checkpoint whose two tied tables differ in one number is refused."""
    assert_rejected(loads(case))


@contract(source="docs/bugs.md#g7", needs=("load",))
@every_layout(misfits.conflicting, empty=NOT_TIED)
def test_conflicting_tied_tables_are_named(loads: Loads, case: Case) -> None:
    """The error about two tied tables that differ names both."""
    table, head = TIED[case.layout.name]
    # A wrapper's prefix may be left out.
    assert_names(loads(case), table.removeprefix("model.paligemma"), head.removeprefix("model.paligemma"))


@contract(source="docs/bugs.md#c3: the error has to say which of many files is meant", needs=("load",))
@every_layout(misfits.one_of_each_kind)
def test_the_file_is_named(loads: Loads, case: Case) -> None:
    """The error about a checkpoint that does not fit names its file or folder."""
    outcome = loads(case)
    assert_names(outcome, str(outcome.path))
