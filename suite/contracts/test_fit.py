"""Checkpoints that fit, in every layout: what is in the file is in the model, with the same numbers."""

from suite.contracts import fitting, starts
from suite.contracts.damages import NOT_SERVED
from suite.contracts.load_asserts import as_float32, assert_landed
from suite.session.registry import contract
from suite.writing.layouts import Case, every_layout
from suite.writing.loads import Loads


@contract(
    source="openpi weight_loaders.py:33, transformers modeling_paligemma.py; docs/bugs.md#c3, #f6, #g9, #rule-4",
    needs=("load",),
)
@every_layout(fitting.shapes)
def test_fills_the_model(loads: Loads, case: Case) -> None:
    """Every parameter of a checkpoint is in the model bit for bit, whatever the number of layers and heads."""
    assert_landed(loads(case).params, case.expected())


@contract(source="IEEE 754: widening is exact; docs/bugs.md#c6, #c7", needs=("load",))
@every_layout(fitting.dtypes)
def test_casts_exactly(loads: Loads, case: Case) -> None:
    """Every number of a checkpoint in another dtype, or in several, is in the model as the same number."""
    assert_landed(loads(case).params, case.expected())


@contract(source="docs/bugs.md#c6: a diverged run was saved; zeros are values", needs=("load",))
@every_layout(fitting.values)
def test_keeps_unusual_values(loads: Loads, case: Case) -> None:
    """Zeros, subnormal numbers, NaN and infinity are in the model as they are in the checkpoint."""
    assert_landed(loads(case).params, case.expected())


@contract(source="arXiv:2407.07726: the output layer is the embedding; openpi #669; docs/bugs.md#g7", needs=("load",))
@every_layout(fitting.tied, empty=fitting.NOT_TIED)
def test_either_name_of_the_tied_table_is_enough(loads: Loads, case: Case) -> None:
    """The token table is read from the embedding, from the output layer that is tied to it, or from both."""
    assert_landed(loads(case).params, case.expected())


@contract(source="docs/bugs.md#c9; openpi model.py:233, policy_config.py:54", needs=("load_for_inference",))
@every_layout(fitting.served, empty=NOT_SERVED)
def test_is_served(loads: Loads, case: Case) -> None:
    """Every parameter of a checkpoint is in the model to serve bit for bit, whatever the number of layers and heads."""
    assert_landed(as_float32(loads.serve(case).params), case.expected())


@contract(source="transformers save_pretrained; sglang #32279, lerobot #826", needs=("load",))
@every_layout(fitting.in_several_files, empty=fitting.NOT_IN_SHARDS)
def test_shards_fill_the_model(loads: Loads, case: Case) -> None:
    """A checkpoint in shards with an index, as transformers saves a large one, loads like a single file."""
    assert_landed(loads(case).params, case.expected())


@contract(source="RLinf #792, INT-ACT #3: a value head or a normalizer in the file", needs=("load",))
@every_layout(starts.with_unused, empty=starts.NO_UNUSED)
def test_a_stray_changes_no_parameter(loads: Loads, case: Case) -> None:
    """A tensor that the model has no place for changes nothing, if the checkpoint is taken with it."""
    outcome = loads(case)
    if outcome.error is None:
        assert_landed(outcome.params, case.expected())
        assert starts.UNUSED[case.layout.name] not in outcome.params
