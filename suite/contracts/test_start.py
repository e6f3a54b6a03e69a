"""Where a training starts, in every layout: what is stored as it is stored, and what is lacking from the seed."""

import json

import numpy as np

from fixtures.params import Params
from suite.contracts import fitting, starts
from suite.contracts.load_asserts import assert_landed
from suite.session.registry import contract
from suite.subjects.protocol import Subject
from suite.writing.asserts import assert_different, assert_same_bits, assert_same_paths
from suite.writing.cases import is_adapter
from suite.writing.layouts import Case, every_layout
from suite.writing.loads import Loads
from suite.writing.remembered import Remembered

# What a part of a pi0 lacks, such as a language model alone, does not come from its checkpoint: some laws need a pi0.


def among(paths: Params, params: Params) -> Params:
    """Return those of the parameters that are at one of the paths."""
    return {path: params[path] for path in paths if path in params}


@contract(source="openpi #283, config pi0_libero_low_mem_finetune on pi0_base; docs/bugs.md#a1, #c3", needs=("load",))
@every_layout(fitting.into_lora, empty=starts.WHOLE)
def test_fills_a_model_with_adapters(loads: Loads, case: Case) -> None:
    """Every parameter of a checkpoint without adapters is in a model with adapters, bit for bit."""
    assert_landed(loads(case).params, case.expected())


@contract(source="openpi #283; docs/bugs.md#c5, #c9", needs=("load", "param_spec"))
@every_layout(starts.bases)
def test_has_every_parameter(subject: Subject, loads: Loads, case: Case) -> None:
    """A loaded model has all parameters, also those that the checkpoint lacks, and no others."""
    assert_same_paths(loads(case).params, subject.param_spec(case.model))


@contract(source="arXiv:2106.09685: B is zero, A is random; docs/bugs.md#a1, #p7", needs=("load", "pi0"))
@every_layout(fitting.into_lora, empty=starts.WHOLE)
def test_fresh_adapters_change_nothing_yet(loads: Loads, case: Case) -> None:
    """Of fresh adapters, every lora_b is zero and no lora_a is."""
    fresh = {path: bool(array.any()) for path, array in loads(case).params.items() if is_adapter(path)}
    assert fresh
    assert fresh == {path: path.endswith("lora_a") for path in fresh}


@contract(source="lerobot #1107: pretrained weights never loaded; docs/bugs.md#p3, #p1", needs=("load",))
@every_layout(starts.bases)
def test_what_is_stored_does_not_depend_on_the_seed(loads: Loads, case: Case) -> None:
    """What the checkpoint holds is the same bit for bit in loads with two seeds."""
    first, second = (among(case.expected(), loads(case, seed=seed).params) for seed in (0, 1))
    assert_same_bits(first, second)
    assert_same_paths(first, case.expected())


@contract(source="arXiv:2410.24164 section IV; docs/bugs.md#c3, #p3, #p7", needs=("load", "init", "pi0"))
@every_layout(starts.lacking, empty=starts.WHOLE)
def test_what_is_lacking_equals_init(subject: Subject, loads: Loads, remembered: Remembered, case: Case) -> None:
    """What the checkpoint lacks starts bit for bit as in a fresh model with that seed."""
    init = remembered(("init", json.dumps(case.model)), lambda: subject.init(case.model, 1))
    fresh = {path: array for path, array in init.items() if path not in case.expected()}
    assert fresh
    assert_same_bits(among(fresh, loads(case, seed=1).params), fresh)


@contract(source="docs/bugs.md#a15, #p7", needs=("load", "init", "pi0"))
@every_layout(starts.lacking, empty=starts.WHOLE)
def test_what_is_lacking_depends_on_the_seed(loads: Loads, case: Case) -> None:
    """What the checkpoint lacks and is drawn at random differs between loads with two seeds."""
    first, second = (loads(case, seed=seed).params for seed in (0, 1))
    drawn = [p for p in first.keys() - case.expected().keys() if p.endswith(("lora_a", "action_in_proj/kernel"))]
    assert drawn
    for path in drawn:
        assert_different(first[path], second[path])


@contract(source="docs/bugs.md#p7, #a15; lerobot PR #2996", needs=("load",))
@every_layout(starts.lacking, empty=starts.WHOLE)
def test_one_seed_gives_one_model(loads: Loads, case: Case) -> None:
    """Two loads with one seed agree on every bit, also of what the checkpoint lacks."""
    assert_same_bits(loads.again(case).params, loads(case).params)


@contract(source="docs/bugs.md#p7; lerobot PR #2996", needs=("load",))
@every_layout(starts.lacking, empty=starts.WHOLE)
def test_no_memory_is_uninitialized(loads: Loads, case: Case) -> None:
    """Every number of a loaded model is finite, also of what the checkpoint lacks."""
    assert [path for path, array in loads(case).params.items() if not np.isfinite(array).all()] == []


@contract(source="docs/bugs.md#p9, #h6; numpy.shares_memory", needs=("load",))
@every_layout(starts.bases)
def test_two_loads_share_no_memory(loads: Loads, case: Case) -> None:
    """No two loads share memory: training one of them does not change the other."""
    first, second = loads(case).params, loads.again(case).params
    assert [path for path in first if np.shares_memory(first[path], second[path])] == []


@contract(source="docs/bugs.md#h6", needs=("load",))
@every_layout(starts.bases)
def test_changes_no_spec(loads: Loads, case: Case) -> None:
    """A load does not change the description of the model that it is given."""
    outcome = loads(case)
    assert outcome.loaded()
    assert outcome.model == case.model


@contract(source="docs/bugs.md#d7, #h6", needs=("load",))
@every_layout(starts.bases)
def test_changes_no_file(loads: Loads, case: Case) -> None:
    """A load changes, makes and deletes no file."""
    outcome = loads(case)
    assert outcome.loaded()
    assert outcome.changed == ()
